"""What the commands promise: options by name, and the README's export commands as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tritonclip_server.embedded.cli import parser as serve_parser
from tritonclip_server.export.cli import parser as export_parser
from tritonclip_server.export.heads_cli import parser as head_parser
from tritonclip_server.export.label_sources import read_prompts
from tritonclip_server.export.labels_cli import parser as labels_parser
from tritonclip_server.export.remove_cli import parser as remove_parser
from tritonclip_server.export.variants import default_variant, resolve
from tritonclip_server.finetune.cli import parser as finetune_parser
from tritonclip_server.resources import DEMO

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

PLACES = {"--repository", "--activate", "--url", "--admin-key"}
PUBLISHING = {*PLACES, "--if-changed"}
OPTIONS = {
    "export": {
        "--list", "--into", "--host", "--checkpoint", "--random", "--image-size", "--precision", "--device",
        "--if-changed", "--drop-label-sets", "--interpolate", "--tokenizer", "--check", "--model",
    },
    "finetune": {
        "--output", "--checkpoint", "--tokenizer", "--labels", "--class-map", "--templates", "--validation-share",
        "--test", "--keep", "--keep-labels", "--keep-loss", "--epochs", "--batch", "--lr", "--weight-decay",
        "--image-layers", "--text-layers", "--seed", "--accumulate", "--device",
    },
    "labels": {"--labels", "--templates", "--device", *PUBLISHING},
    "head": {"--name", *PUBLISHING},
    "remove": PLACES,
    "serve": {
        "--http-port", "--grpc-port", "--metrics-port", "--gateway-port", "--address", "--admin-key", "--log",
        "--gateway-flags", "--sample-index", "--greet",
    },
}  # fmt: skip
PARSERS = {
    "export": export_parser,
    "finetune": finetune_parser,
    "head": head_parser,
    "labels": labels_parser,
    "remove": remove_parser,
    "serve": serve_parser,
}


@pytest.mark.parametrize("name", OPTIONS)
def test_help_names_every_option_and_says_what_it_does(name: str) -> None:
    command = [sys.executable, "-m", "tritonclip_server", name, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {option for line in done.stdout.splitlines() for option in re.findall(r"^\s+(--[\w-]+)", line)}
    assert listed == OPTIONS[name]
    assert all(action.help for action in PARSERS[name]()._actions)


def readme_commands(name: str) -> list[list[str]]:
    found = re.findall(rf"tritonclip-server {name}( [^#`\n]*)?", README)
    return [shlex.split(arguments) for arguments in found if "…" not in arguments and "VARIANT" not in arguments]


def test_the_readmes_export_commands_are_real_ones() -> None:
    commands = readme_commands("export")
    assert len(commands) >= 4
    for arguments in commands:
        resolve(export_parser().parse_args(arguments).variant or default_variant().name)


def test_the_readmes_labels_commands_are_real_ones() -> None:
    commands = readme_commands("labels")
    assert commands
    for arguments in commands:
        options = labels_parser().parse_args(arguments)
        read_prompts(options.labels, options.templates)


def test_the_readmes_head_commands_are_real_ones() -> None:
    commands = readme_commands("head")
    assert commands
    for arguments in commands:
        head_parser().parse_args(arguments)


def test_the_readmes_serve_commands_are_real_ones() -> None:
    commands = readme_commands("serve")
    assert commands
    for arguments in commands:
        serve_parser().parse_args(arguments)


def code_lines(document: Path) -> list[str]:
    fences = re.findall(r"^```\w*\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for fence in fences for line in fence.splitlines()]


def test_commands_of_this_checkout_are_written_with_the_folder_that_they_are_in() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    commands = [line for document in documents for line in code_lines(document) if "bin/" in line or "python" in line]
    assert len(commands) > 20
    bare = re.compile(r"(python3?|tritonclip|tritonclip-server|pytest|locust) ")
    assert [line for line in commands if bare.match(line)] == []


def test_every_make_target_of_the_readme_exists() -> None:
    for target in set(re.findall(r"`?make (\w+)", README)):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, target


@pytest.mark.parametrize(
    ("settings", "variants"),
    [((), ["demo"]), (("VARIANT=a/b",), ["a/b"]), (("VARIANTS=demo a/b",), ["demo", "a/b"])],
    ids=["none", "one", "several"],
)
def test_make_up_exports_and_serves_each_variant(settings: tuple[str, ...], variants: list[str]) -> None:
    done = subprocess.run(["make", "-n", "up", *settings], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines() if "tritonclip-server" in line]
    folders = [f"build/models/{variant.replace('/', '-')}" for variant in variants]
    exports = [line for line in lines if "export" in line]
    assert [line[2] for line in exports] == variants
    assert [line[line.index("--into") + 1] for line in exports] == folders
    assert any("labels" in line for line in lines) == ("demo" in variants)
    serve = lines[-1][lines[-1].index("serve") + 1 :]
    assert serve[: serve.index("--gateway-port")] == folders


def test_the_default_variant_is_the_same_everywhere() -> None:
    name = default_variant().name
    assert f"DEFAULT_VARIANT := {name}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert serve_parser().parse_args([]).repositories[0].name == DEMO.name
    assert name in README


def test_ci_runs_the_readmes_test_command_first_and_stops_at_a_failure(tmp_path: Path) -> None:
    """`.ci/run` itself, with a `make` that says what it was asked for, and fails where it is told to."""
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "make $*"\n[ "$*" != "$FAILING" ]\n')
    make.chmod(0o755)

    def run(failing: str) -> tuple[int, list[str]]:
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FAILING": failing}
        done = subprocess.run([ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout.splitlines()

    code, asked = run(failing="")
    assert code == 0
    assert asked[0] == "make test"
    assert {"docs", "test-clients", "test-compose", "test-helm"} < set(" ".join(asked).split())
    assert any(line.startswith("make test ") for line in code_lines(ROOT / "README.md"))
    for command in asked:
        code, until = run(failing=command.removeprefix("make "))
        assert code != 0
        assert until[-1] == command
