"""What is suggested to a newcomer can be typed as it stands, from a checkout as from an installed wheel."""

import shlex
import sys
from pathlib import Path

import pytest

from tritonclip.cli._parser import build_parser
from tritonclip_server.embedded.greeting import PHOTOS, SCENES, Greeting, own_command, suggestions
from tritonclip_server.resources import SAMPLES

GATEWAY = "http://127.0.0.1:8080"
both = pytest.mark.parametrize("greeting", [SCENES, PHOTOS], ids=["demo", "others"])


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment `some env` with the command, of which a shell knows nothing, below the present folder."""
    command = tmp_path / "some env" / "bin" / "tritonclip"
    command.parent.mkdir(parents=True)
    command.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(command.with_name("python")))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    return command


def test_the_command_is_written_as_a_path_where_a_shell_does_not_find_it(installed: Path, tmp_path: Path) -> None:
    assert shlex.split(own_command()) == ["some env/bin/tritonclip"]


def test_outside_the_present_folder_the_path_is_whole(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert shlex.split(own_command()) == [str(installed).removeprefix("/")]
    monkeypatch.chdir("/usr")
    assert shlex.split(own_command()) == [str(installed)]


def test_the_name_is_enough_where_a_shell_finds_it(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(installed.parent))
    assert own_command() == "tritonclip"


def test_another_command_of_that_name_is_not_it(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "tritonclip"
    other.parent.mkdir()
    other.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    assert shlex.split(own_command()) == ["some env/bin/tritonclip"]


@both
def test_every_suggestion_is_a_command_line_of_images_that_are_there(greeting: Greeting, installed: Path) -> None:
    *commands, curl = suggestions(greeting, GATEWAY, Path("my indexes/samples"))
    for command in commands:
        name, *arguments = shlex.split(command)
        assert name == "some env/bin/tritonclip"
        build_parser().parse_args(arguments)
        for sample in (argument for argument in arguments if str(SAMPLES) in argument):
            assert list(SAMPLES.glob(str(Path(sample).relative_to(SAMPLES))))
    assert shlex.split(commands[-2])[1:4] == ["search", "my indexes/samples", greeting.search]
    (image,) = (part for part in shlex.split(curl) if part.startswith("image=@"))
    assert Path(image.removeprefix("image=@")).is_file()


def test_commands_ask_for_the_model_that_was_greeted(installed: Path) -> None:
    *commands, _ = suggestions(SCENES, GATEWAY, None, "vit")
    assert {build_parser().parse_args(shlex.split(command)[1:]).model for command in commands} == {"vit"}


@both
def test_in_the_checkout_samples_are_written_shortly(greeting: Greeting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SAMPLES.parent)
    said = "\n".join(suggestions(greeting, GATEWAY, None))
    assert str(SAMPLES) not in said
    assert " samples/" in said.replace("'", "")
    assert "search" not in said
