"""The ``tritonclip`` command: help, wrong usage, exit codes, and the command as a process."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.client.conftest import Command
from tests.unit.client.wire_servers import serve_grpc
from tritonclip.cli import main
from tritonclip.testing import FakeServer


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["embed", "rank", "classify", "status", "--url", "TRITONCLIP_URL", "Exit codes"]),
        (["embed", "--help"], ["IMAGE", "--text", "--texts-from", "--format", "--output", "glob", "standard input"]),
        (["rank", "--help"], ["IMAGE SENTENCE", "--image", "--texts-from"]),
        (
            ["classify", "--help"],
            ["--labels", "--labels-from", "--template", "a photo of a {}", "--top-k", "--label-set", "--threshold"],
        ),
        (["status", "--help"], ["--format", "--timeout"]),
        (["--version"], ["tritonclip 0."]),
    ],
)
def test_help(arguments: list[str], words: list[str], command: Command) -> None:
    assert command(*arguments) == 0
    for word in words:
        assert word in " ".join(command.text.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["frobnicate"], "invalid choice"),
        (["embed"], "give images, or texts"),
        (["embed", "cat.jpg", "--text", "a cat"], "one of both"),
        (["embed", "no*.jpg"], "no file matches 'no*.jpg'"),
        (["embed", "-", "-"], "give - once"),
        (["embed", "--texts-from", "no.txt"], "no.txt"),
        (["rank", "cat.jpg"], "give an image and sentences"),
        (["rank", "--image", "cat.jpg"], "give an image and sentences"),
        (["classify", "cat.jpg"], "--labels"),
        (["classify", "cat.jpg", "--labels", "a", "--template", "none"], "template"),
        (["classify", "cat.jpg", "--labels", "a", "--top-k", "0"], "top_k"),
        (["classify", "cat.jpg", "--labels", "a", "--threshold", "2"], "threshold"),
        (["classify", "cat.jpg", "--labels", "a", "--label-set", "b"], "or else --label-set"),
        (["rank", "cat.jpg", "a", "--format", "npy"], "embed` alone"),
        (["classify", "cat.jpg", "--labels", "a", "--format", "npy"], "embed` alone"),
        (["status", "--format", "npy"], "embed` alone"),
        (["status", "--format", "xml"], "invalid choice"),
        (["status", "--url", "localhost:8001"], "not a server URL"),
        (["status", "--timeout", "0"], "timeout"),
        (["embed", "cat.jpg", "--output", "no/such/folder/out.json"], "No such file"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], message: str, command: Command, photos: Path) -> None:
    assert command(*arguments) == 2
    assert message in command.err
    assert command.out == b""


def test_options_before_and_after_the_commands_name(command: Command) -> None:
    assert command("--url", "grpc://a:1", "--timeout", "3", "status") == 0
    assert command("status", "--url", "grpc://b:2") == 0
    assert command("--url", "grpc://a:1", "status", "--url", "grpc://b:2", "--timeout", "4") == 0
    assert command.asked == [("grpc://a:1", 3.0), ("grpc://b:2", 60.0), ("grpc://b:2", 4.0)]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_no_server_exits_with_3_and_helps(
    scheme: str, free_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONCLIP_URL", f"{scheme}://127.0.0.1:{free_port}")
    assert main(["embed", "--text", "a cat"]) == 3
    err = capsys.readouterr().err
    assert f"no server answered at {scheme}://127.0.0.1:{free_port}" in err
    assert "make up" in err
    assert "TRITONCLIP_URL" in err


def test_a_server_that_fails_exits_with_1(command: Command) -> None:
    command.fake.manifest = []  # type: ignore[assignment]
    assert command("embed", "--text", "a") == 1
    assert command.err.startswith("tritonclip: manifest")


def test_interruption(command: Command) -> None:
    def interrupt(call: object) -> None:
        raise KeyboardInterrupt

    command.fake.before = interrupt
    assert command("status") == 130


def test_the_installed_command_over_a_real_wire(tmp_path: Path) -> None:
    image = tmp_path / "cat.jpg"
    image.write_bytes(b"a cat")
    with serve_grpc(FakeServer()) as (url, _):
        process = subprocess.run(
            [
                sys.executable,
                "-m",
                "tritonclip.cli",
                "rank",
                str(image),
                "a cat",
                "a dog",
                "--url",
                url,
                "--format",
                "csv",
            ],
            capture_output=True,
            check=True,
            timeout=60,
        )
    rows = process.stdout.decode().splitlines()
    assert len(rows) == 3
    assert rows[1].split(",")[1] == "a cat"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    with serve_grpc(FakeServer()) as (url, _):
        texts = [argument for number in range(300) for argument in ("--text", str(number))]
        process = subprocess.Popen(
            [sys.executable, "-m", "tritonclip.cli", "embed", *texts, "--url", url, "--format", "csv"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(60) == 0
