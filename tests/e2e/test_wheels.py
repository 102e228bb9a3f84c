"""Both packages as others have them: built as wheels, and run in environments that know nothing of this checkout.

An environment holds a wheel and what one of its extras asks for, dependencies of dependencies included, as links to
what is installed here. So nothing is fetched but the build backend, and a name that an extra lacks is an import error.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tritonclip_server.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).parent / "uv"
SOURCES = ("client", "server", "model_repository", "samples", "examples/demo_model/demo", "LICENSE")
OURS = {"tritonclip", "tritonclip-server"}
EXTRAS = sorted({command.extra for command in COMMANDS.values()})
# What exporting into model_repository/ and running its code leave there; no wheel may have any of it.
LEFT_OVER = (
    "manifest.json",
    "image_encoder/1/model.pt",
    "text_tokenize/1/tokenizer.json",
    "manifest/1/__pycache__/model.cpython-311.pyc",
    "head_scenes/1/model.pt",
    "classify_scenes/config.pbtxt",
)
# Shows the help of each command of a part, and imports each of its modules but those below what is left out.
TRY = """
import contextlib, importlib, pkgutil, sys
part, left_out, main, *commands = sys.argv[1:]
for command in commands:
    with contextlib.suppress(SystemExit):
        importlib.import_module(main).main([command, "--help"])
package = importlib.import_module(part)
assert package.__file__.startswith(sys.prefix), package.__file__
for module in pkgutil.walk_packages(package.__path__, f"{part}."):
    below = [f"{module.name}.".startswith(f"{name}.") for name in left_out.split(",")]
    if not (module.name.endswith("__main__") or any(below)):
        importlib.import_module(module.name)
"""


def run(*command: object, cwd: Path, code: int = 0) -> str:
    """What a command prints, outside the checkout and with nothing of it on the path."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def files_of(folder: Path) -> Iterator[str]:
    """The files of a package's sources, by their path from the folder that holds the package."""
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (str((Path(path) / name).relative_to(folder.parent)) for name in names)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what wheels are built from, since building leaves files beside it."""
    copy = tmp_path_factory.mktemp("sources")
    exported = ("manifest.json", "model.pt", "tokenizer.json", "head_*", "classify_*")
    unwanted = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", *exported)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def expected(sources: Path) -> dict[str, set[str]]:
    """The files that each wheel must hold, by the name of its package."""
    return {"tritonclip": set(files_of(sources / "client" / "tritonclip"))} | {
        "tritonclip_server": set(files_of(sources / "server" / "tritonclip_server"))
    }


@pytest.fixture(scope="module")
def wheels(sources: Path, expected: dict[str, set[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, by the name of the package, built where left-over files lie about."""
    folder = tmp_path_factory.mktemp("wheels")
    for path in (sources / "model_repository" / name for name in LEFT_OVER):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left over")
    for name in ("client", "server"):
        run(UV, "build", "--quiet", "--wheel", "--out-dir", folder, sources / name, cwd=folder)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


class Environment:
    """A virtual environment with both wheels and, of what else is installed here, only what is asked for."""

    def __init__(self, folder: Path, wheels: Iterable[Path], *wanted: str) -> None:
        """`wanted` are packages of ours with extras, as pip takes them."""
        run(UV, "venv", "--quiet", "--offline", "--python", sys.executable, folder, cwd=folder.parent)
        self.bin = folder / "bin"
        install = (UV, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", self.bin / "python")
        run(*install, *wheels, cwd=folder.parent)
        self._site = next(folder.glob("lib/python3*/site-packages"))
        for requirement in wanted:
            for distribution in self._distributions(Requirement(requirement)):
                self._link(distribution)

    def _distributions(self, wanted: Requirement) -> list[metadata.Distribution]:
        """What a package of ours brings, as it is installed here."""
        ours = {canonicalize_name(found.name): found for found in metadata.distributions(path=[str(self._site)])}
        waiting = [wanted]
        seen: set[tuple[str, str]] = set()
        found: list[metadata.Distribution] = []
        while waiting:
            requirement = waiting.pop()
            name = canonicalize_name(requirement.name)
            distribution = ours[name] if name in OURS else metadata.distribution(name)
            for extra in {"", *requirement.extras}:
                if (name, extra) in seen:
                    continue
                seen.add((name, extra))
                needs = [Requirement(text) for text in distribution.requires or ()]
                waiting += [need for need in needs if not need.marker or need.marker.evaluate({"extra": extra})]
            if name not in OURS:
                found.append(distribution)
        return found

    def _link(self, distribution: metadata.Distribution) -> None:
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (self._site / top).exists():
                (self._site / top).symlink_to(str(distribution.locate_file(top)))


@pytest.mark.parametrize("package", ["tritonclip", "tritonclip_server"])
def test_a_wheel_holds_the_package_and_nothing_else(
    package: str, wheels: dict[str, Path], expected: dict[str, set[str]]
) -> None:
    with ZipFile(wheels[package]) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    about = {name for name in names if name.startswith(f"{package}-")}
    assert names - about == expected[package]
    assert any(name.endswith("/licenses/LICENSE") for name in about)


def test_the_version_is_one(wheels: dict[str, Path]) -> None:
    assert len({path.name.split("-")[1] for path in wheels.values()}) == 1


def test_the_client_needs_only_what_it_asks_for(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path / "client", [wheels["tritonclip"]], "tritonclip")
    assert "embed" in run(environment.bin / "tritonclip", "--help", cwd=tmp_path)
    left_out = "tritonclip.bulk,tritonclip.search,tritonclip.training"
    run(environment.bin / "python", "-c", TRY, "tritonclip", left_out, "tritonclip.cli", cwd=tmp_path)
    for command in (("search", "photos.index", "a cat"), ("index", "info", "photos.index")):
        said = run(environment.bin / "tritonclip", *command, cwd=tmp_path, code=2)
        assert said == 'tritonclip: searching needs LanceDB: pip install "tritonclip[search]"\n'
    said = run(environment.bin / "tritonclip", "embed-dataset", "photos", "vectors", cwd=tmp_path, code=2)
    assert said == 'tritonclip: data sets need pyarrow: pip install "tritonclip[bulk]"\n'
    training = ("train", "birds", "--name", "birds", "--output", "head")
    said = run(environment.bin / "tritonclip", *training, cwd=tmp_path, code=2)
    assert said == 'tritonclip: training needs SciPy: pip install "tritonclip[train]"\n'


def test_the_clients_extra_brings_all_that_training_needs(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path / "train", [wheels["tritonclip"]], "tritonclip[train]")
    arguments = ("tritonclip", "tritonclip.bulk,tritonclip.search", "tritonclip.cli", "train")
    assert "usage: tritonclip train " in run(environment.bin / "python", "-c", TRY, *arguments, cwd=tmp_path)


def test_the_clients_extra_brings_all_that_searching_needs(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path / "search", [wheels["tritonclip"]], "tritonclip[search]")
    arguments = ("tritonclip", "tritonclip.training", "tritonclip.cli", "search", "index")
    said = run(environment.bin / "python", "-c", TRY, *arguments, cwd=tmp_path)
    assert "usage: tritonclip search " in said
    assert "usage: tritonclip index " in said
    missing = run(environment.bin / "tritonclip", "index", "info", "photos.index", cwd=tmp_path, code=2)
    assert missing.startswith("tritonclip: photos.index: there is no index")


def test_the_extra_for_spans_brings_all_that_they_need(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path / "otel", wheels.values(), "tritonclip-server[otel]")
    run(environment.bin / "python", "-c", "import tritonclip_server.gateway.spans", cwd=tmp_path)


def test_the_clients_extra_brings_all_that_data_sets_need(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path / "bulk", [wheels["tritonclip"]], "tritonclip[bulk]")
    arguments = ("tritonclip", "tritonclip.search,tritonclip.training", "tritonclip.cli", "embed-dataset")
    assert "usage: tritonclip embed-dataset " in run(environment.bin / "python", "-c", TRY, *arguments, cwd=tmp_path)
    (tmp_path / "photos").mkdir()
    dataset = (environment.bin / "tritonclip", "embed-dataset", "photos", "vectors", "--url", "grpc://127.0.0.1:9")
    assert "no server answered" in run(*dataset, cwd=tmp_path, code=3)


def test_a_command_without_its_extra_says_what_to_install(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path / "bare", [wheels["tritonclip_server"]])
    command = environment.bin / "tritonclip-server"
    assert all(name in run(command, "--help", cwd=tmp_path) for name in COMMANDS)
    for name, details in COMMANDS.items():
        said = run(command, name, "--help", cwd=tmp_path, code=2)
        assert said.splitlines()[-1].endswith(f"pip install 'tritonclip-server[{details.extra}]'")
        assert "Traceback" not in said


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_all_that_its_commands_need(extra: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path / extra, wheels.values(), f"tritonclip-server[{extra}]")
    commands = [name for name, details in COMMANDS.items() if details.extra == extra]
    spans = "tritonclip_server.gateway.spans"  # which is for the extra otel
    arguments = (f"tritonclip_server.{extra}", spans, "tritonclip_server.cli", *commands)
    said = run(environment.bin / "python", "-c", TRY, *arguments, cwd=tmp_path)
    assert [f"usage: tritonclip-server {name} " in said for name in commands] == [True] * len(commands)
    if extra == "export":
        export = (environment.bin / "tritonclip-server", "export", "demo", "--host", "cpu", "--into", "served")
        run(*export, cwd=tmp_path)
        assert (tmp_path / "served" / "image_encoder" / "1" / "model.pt").is_file()
