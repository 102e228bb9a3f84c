"""docker-compose.second.yml as Compose itself reads it, over each of the files that have the first model."""

import json
from typing import Any

import pytest

from tests.compose.conftest import docker

GPU = ("docker-compose.yml", "docker-compose.second.yml")
CPU = (*GPU, "docker-compose.cpu.yml", "docker-compose.second-cpu.yml")


def merged(*files: str) -> dict[str, Any]:
    """The services of these files, one over the other."""
    named = [part for file in files for part in ("-f", file)]
    services: dict[str, Any] = json.loads(docker("compose", *named, "config", "--format", "json").stdout)["services"]
    return services


@pytest.mark.parametrize("files", [GPU, CPU], ids=["gpu", "cpu"])
def test_the_second_triton_is_the_first_with_other_ports_and_another_folder(files: tuple[str, ...]) -> None:
    services = merged(*files)
    first, second = services["triton"], services["triton-second"]
    differ = {"command", "ports", "depends_on"}
    assert {name: first[name] for name in first.keys() - differ} == {
        name: second[name] for name in second.keys() - differ
    }
    assert {port["published"] for port in second["ports"]} == {"8010", "8011", "8012"}
    assert {port["host_ip"] for port in second["ports"]} == {"127.0.0.1"}
    assert "export-second" in second["depends_on"]
    (into,) = (part for part in services["export-second"]["command"] if part.startswith("--into="))
    assert any(into.removeprefix("--into=") in part for part in second["command"])
    urls = [part for part in services["gateway"]["command"] if "grpc://" in part]
    assert [url.partition("=")[2] for url in urls] == ["grpc://triton:8001", "grpc://triton-second:8001"]
    assert "triton-second" not in services["gateway"]["depends_on"]
