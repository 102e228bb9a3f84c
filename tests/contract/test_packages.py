"""What the two packages say of themselves agrees with the pinned requirements, and with each other."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PINNED = {
    ("server", "export"): ["export.txt"],
    ("server", "finetune"): ["finetune.txt"],
    ("server", "embedded"): ["embedded.txt"],
    ("server", "gateway"): ["gateway.txt", "openai-tokens.txt"],
    ("server", "otel"): ["otel.txt"],
    ("client", "bulk"): ["bulk.txt"],
    ("client", "ray"): ["ray.txt"],
    ("client", "search"): ["search.txt"],
    ("client", "train"): ["train.txt"],
}


def project(folder: str) -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    return document


def requirements(name: str) -> dict[str, Requirement]:
    """The requirements of a file and of those that it includes, by name."""
    found: dict[str, Requirement] = {}
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            found |= requirements(text.removeprefix("-r ").strip())
        elif text:
            requirement = Requirement(text)
            found[canonicalize_name(requirement.name)] = requirement
    return found


def test_every_extra_has_its_pinned_files() -> None:
    extras = [(folder, extra) for folder in ("server", "client") for extra in project(folder)["optional-dependencies"]]
    assert sorted(extras) == sorted(PINNED)


@pytest.mark.parametrize(("folder", "extra"), PINNED)
def test_what_an_extra_brings_is_pinned_and_tested_in_a_version_that_it_allows(folder: str, extra: str) -> None:
    pinned = {name: found for file in PINNED[folder, extra] for name, found in requirements(file).items()}
    for requirement in map(Requirement, project(folder)["optional-dependencies"][extra]):
        if requirement.name not in ("tritonclip", "tritonclip-server"):
            (version,) = pinned[canonicalize_name(requirement.name)].specifier
            assert version.operator == "=="
            assert version.version in requirement.specifier, requirement


@pytest.mark.parametrize("folder", ["client", "server"])
def test_a_package_has_its_licence_and_says_for_whom_it_is(folder: str) -> None:
    metadata = project(folder)
    assert (ROOT / folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (metadata["license"], metadata["license-files"]) == ("MIT", ["LICENSE"])
    assert metadata["description"]
    assert metadata["keywords"] == sorted(metadata["keywords"])
    assert metadata["classifiers"] == sorted(metadata["classifiers"])
    assert metadata["dynamic"] == ["version"]  # in both from client/tritonclip/_version.py


def test_the_version_comes_from_one_place() -> None:
    version = ROOT / "client" / "tritonclip" / "_version.py"
    assert (ROOT / "server" / "tritonclip_server" / "_version.py").resolve() == version
