"""`tritonclip-server serve`, wrongly started: a message and an exit code, never a traceback; and what it sets up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tritonclip_server.embedded.cli import log_of
from tritonclip_server.embedded.environment import Installation, spare_from_proxies
from tritonclip_server.embedded.errors import EnvironmentProblem, RepositoryProblem
from tritonclip_server.embedded.repository import Deployed, encoder_queue, model_names

ROOT = Path(__file__).resolve().parents[3]
# Each command line of the JSON on standard input, in one process: Python and its imports take longest.
RUN_ALL = """
import json, sys
from pathlib import Path
from tritonclip_server.embedded import cli
from tritonclip_server.embedded.repository import Deployed
main, check_repositories = cli.main, cli.check_repositories

class Outlet(cli.Outlet):
    # A command waits two seconds for its messages to be written, which a machine that stands still may not give it.
    def close(self):
        super().close(60)

cli.Outlet = Outlet
for arguments in json.load(sys.stdin):
    # What becomes of the gateway's options is said once it is known which models there are.
    with_gateway = any(argument.startswith("--gateway-flags") for argument in arguments)
    cli.check_repositories = (lambda folder: [Deployed(folder, {})]) if with_gateway else check_repositories
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    print(json.dumps(code), flush=True)
    print("---", file=sys.stderr, flush=True)
"""
WRONG = (
    (["--http-port", "99999"], "99999 is no port"),
    (["--grpc-port", "-1"], "-1 is no port"),
    (["--metrics-port", "65536"], "65536 is no port"),
    (["--gateway-port", "99999"], "99999 is no port"),
    (["--gateway-port", "-5"], "-5 is no port"),
    (["--http-port", "8.5"], "--http-port"),
    (["--http-port", ""], "--http-port"),
    (["--http-port", "7001", "--grpc-port", "7001"], "http and grpc cannot both listen on port 7001"),
    (["--http-port", "7001", "--gateway-port", "7001"], "http and gateway cannot both listen on port 7001"),
    (["--address", "no such host"], "no IPv4 address"),
    (["--address", ""], "no IPv4 address"),
    (["--address", "::1"], "no IPv4 address"),
    (["--address", "192.0.2.1"], "cannot listen on 192.0.2.1"),
    (["--admin-key", ""], "--admin-key"),
    (["--admin-key", "two words"], "--admin-key"),
    (["--admin-key", "schlüssel"], "--admin-key"),
    (["--admin-key", "line\nbreak"], "--admin-key"),
    (["--unknown"], "--unknown"),
    (["--gateway-flags=--alias"], "--gateway-flags: there is no gateway to give it to"),
    (["--sample-index", "somewhere"], "--sample-index: there is no gateway to give it to"),
    (
        ["--gateway-port", "0", "--gateway-flags=--max-items=3"],
        "unrecognized arguments: --max-items=3",
    ),
    (["--gateway-port", "0", "--gateway-flags=--alias"], "--gateway-flags: argument --alias: expected one argument"),
    (["--gateway-port", "0", "--gateway-flags=--max-texts 0"], "0 is not more than 0"),
    (["--gateway-port", "0", "--gateway-flags=--keys /no/such/keys"], "there is no folder /no/such for the key file"),
    (["--gateway-port", "0", "--gateway-flags=keys list"], "unrecognized arguments: keys list"),
    (["--gateway-port", "0", "--gateway-flags=--port 9000"], "--port is this command's own to say"),
    (["--gateway-port", "0", "--gateway-flags=--url=grpc://x"], "--url is this command's own to say"),
    (["--gateway-port", "0", "--gateway-flags=--alias 'a"], "No closing quotation"),
    (["one", "two"], "one: no such folder"),
    (["/no/such/folder"], "no such folder"),
    ([""], "manifest.json"),
    (["/dev/null"], "no such folder"),
    (["/proc"], "manifest.json"),
)
FREE = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]


def test_a_wrong_command_line_gets_a_message() -> None:
    lines = [[*FREE, *arguments] for arguments, _ in WRONG]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL], cwd=ROOT, input=json.dumps(lines), capture_output=True, text=True, check=True
    )
    codes = [json.loads(line) for line in done.stdout.split()]
    messages = done.stderr.split("---\n")[:-1]
    assert len(codes) == len(messages) == len(WRONG)
    for (arguments, part), code, message in zip(WRONG, codes, messages, strict=True):
        assert code in (1, 2), arguments
        assert part in message, (arguments, message)
        assert "Traceback" not in message, message
        assert message.startswith(("error: ", "usage: ")), message


def test_models_go_by_their_names_or_variants_where_there_are_several() -> None:
    served = [
        Deployed(Path(folder), {"variant": f"variant-{folder}"} | ({"model": name} if name else {}))
        for folder, name in (("a", None), ("b", None), ("c", "vit"))
    ]
    assert model_names(served[:1]) == model_names(served[2:]) == [""]
    assert model_names(served) == ["variant-a", "variant-b", "vit"]
    with pytest.raises(RepositoryProblem, match="are both of variant-a: serve one of them"):
        model_names([served[0], served[0]])


def test_each_server_has_its_log(tmp_path: Path) -> None:
    assert [log_of(tmp_path / "triton.log", number).name for number in range(3)] == [
        "triton.log", "triton-2.log", "triton-3.log",
    ]  # fmt: skip
    assert log_of(Path("/dev/stdout"), 1) == Path("/dev/stdout")


@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "> /dev/full 2> /dev/full"])
def test_without_standard_error_it_still_ends_as_it_should(redirection: str) -> None:
    ports = "--http-port 0 --grpc-port 0 --metrics-port 0"
    command = f'"{sys.executable}" -m tritonclip_server serve /no/such/folder {ports} {redirection}'
    assert subprocess.run(["sh", "-c", command], cwd=ROOT, timeout=300).returncode == 1


def test_closed_descriptors_are_taken_before_anything_else_takes_them() -> None:
    """Else the next file that is opened would be standard error to every program that is started."""
    code = (
        "from tritonclip_server.embedded.process import open_standard_descriptors as o; o(); "
        "import os; os._exit(os.open('/dev/null', 0))"
    )
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "{code}" 0<&- 2>&-'], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    assert done.returncode >= 3


def test_ctrl_c_while_it_looks_at_the_repository_is_no_traceback(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")  # reading it waits
    # As in tests/launching.py: a run in the background ignores the signal, and so would its children.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "tritonclip_server", "serve", str(tmp_path), *FREE]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        writer = os.open(tmp_path / "manifest.json", os.O_WRONLY)  # returns once somebody reads
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        os.close(writer)
    assert process.returncode == 128 + signal.SIGINT
    assert said == ""


@pytest.mark.parametrize(
    ("given", "spared"),
    [
        ({}, "localhost,127.0.0.1,10.0.0.5"),
        ({"NO_PROXY": "a.example, .b.example"}, "a.example,.b.example,localhost,127.0.0.1,10.0.0.5"),
        ({"no_proxy": "a", "NO_PROXY": "b,,127.0.0.1"}, "a,b,127.0.0.1,localhost,10.0.0.5"),
        ({"no_proxy": "*"}, "*,localhost,127.0.0.1,10.0.0.5"),
    ],
)
def test_proxies_are_kept_from_loopback_beside_what_they_spare_already(given: dict[str, str], spared: str) -> None:
    assert spare_from_proxies(given, "127.0.0.1", "10.0.0.5") == {"no_proxy": spared, "NO_PROXY": spared}


def test_the_libraries_heed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name, value in spare_from_proxies(os.environ, "10.0.0.5").items():
        monkeypatch.setenv(name, value)
    with httpx.Client() as client:
        direct = client._transport
        assert client._transport_for_url(httpx.URL("http://127.0.0.1:8000/")) is direct
        assert client._transport_for_url(httpx.URL("http://10.0.0.5:8000/")) is direct
        assert client._transport_for_url(httpx.URL("http://example.com/")) is not direct


def test_a_folder_where_nothing_may_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mounted:
        f_flag = os.ST_NOEXEC

    monkeypatch.setattr(os, "statvfs", lambda _: Mounted)
    somewhere = Path("/somewhere")
    installation = Installation(somewhere, somewhere, somewhere, somewhere, somewhere, somewhere)
    with pytest.raises(EnvironmentProblem, match=r"noexec.*set TMPDIR"):
        installation.copy_backends(tmp_path / "backends")


def test_backends_that_cannot_be_copied_are_an_error_that_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "python").touch()
    somewhere = Path("/somewhere")
    installation = Installation(somewhere, somewhere, somewhere, somewhere, somewhere, somewhere)
    with pytest.raises(EnvironmentProblem, match=r"cannot be copied to .* \(File exists\): TMPDIR"):
        installation.copy_backends(tmp_path)


@pytest.mark.parametrize("content", [None, b"\xff", b"max_batch_size: {", b"unknown_field: 1"])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "image_encoder").mkdir()
    if content is not None:
        (tmp_path / "image_encoder" / "config.pbtxt").write_bytes(content)
    with pytest.raises(RepositoryProblem, match=r"image_encoder/config\.pbtxt"):
        encoder_queue(tmp_path)
