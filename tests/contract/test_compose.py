"""The compose files without an engine: flags, users, mounts, health checks, settings. tests/compose/ starts them."""

import re
import subprocess
import sys
import threading
import tomllib
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.compose_files import ROOT, services, settings
from tritonclip import __version__
from tritonclip_server.embedded.cli import parser as serve_parser
from tritonclip_server.embedded.environment import find_installation
from tritonclip_server.embedded.server import (
    CACHE_BYTES,
    CONNECTION_AGE_MS,
    METRICS_CONFIG,
    OPERATOR_APIS,
    PING_INTERVAL_MS,
)
from tritonclip_server.embedded.triton_tracing import trace_flags
from tritonclip_server.export.variants import default_variant
from tritonclip_server.gateway.cli import parser as gateway_parser
from tritonclip_server.gateway.model_options import aliases_of, models_of

GPU, CPU, TRACING = "docker-compose.yml", "docker-compose.cpu.yml", "docker-compose.tracing.yml"
SECOND, SECOND_CPU = "docker-compose.second.yml", "docker-compose.second-cpu.yml"
START = (ROOT / "deploy/docker/start_triton").read_text()
TRITON_DOCKERFILE = (ROOT / "deploy/docker/triton.Dockerfile").read_text()
FIRST_RELEASE: dict[str, str] = tomllib.loads((ROOT / "tests/data/triton_flags.toml").read_text())["first_release"]
EMBEDDED = "24.10"


def flags() -> dict[str, str | None]:
    """The flags that tritonserver gets in the production container."""
    command = services(GPU)["triton"]["command"]
    assert command[0] == "/opt/tritonclip/start_triton"
    traced = trace_flags({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4318"})
    given = [*command[1:], *re.findall(r'f"(--[\w-]+=[^"]*)"', START), *traced]
    pairs = [flag.removeprefix("--").partition("=") for flag in given]
    assert all(flag.startswith("--") for flag in given)
    return {name: value if separator else None for name, separator, value in pairs}


def release() -> str:
    assert "FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG}\n" in TRITON_DOCKERFILE
    found = re.search(r"^ARG TRITON_TAG=(\d\d\.\d\d)-py3$", TRITON_DOCKERFILE, re.MULTILINE)
    assert found, "the Triton image is not pinned to one release"
    return found[1]


def test_the_release_is_a_setting_with_one_default() -> None:
    tag = f"{release()}-py3"
    assert settings(GPU)["TRITON_TAG"] == {tag}
    assert f"tritonserver:${{TRITON_TAG:-{tag}}}" in (ROOT / "scripts/docker-engine").read_text()
    other = services(GPU, {"TRITON_TAG": "26.12-py3"})["triton"]
    assert other["build"]["args"] == {"TRITON_TAG": "26.12-py3"}
    assert other["image"].endswith("-26.12-py3")  # else the image of the release before would be started


def test_every_flag_exists_in_the_triton_of_the_container() -> None:
    assert set(flags()) <= set(FIRST_RELEASE), "a flag that nobody looked up: add it to tests/data/triton_flags.toml"
    late = {name: FIRST_RELEASE[name] for name in flags() if FIRST_RELEASE[name] > release()}
    assert not late


def test_the_list_of_flags_agrees_with_a_real_triton() -> None:
    installation = find_installation()
    done = subprocess.run(
        [installation.binary, "--help"], env=installation.environment(), capture_output=True, text=True
    )
    known = set(re.findall(r"^\s+--([a-z0-9-]+)", done.stdout + done.stderr, re.MULTILINE))
    assert {name for name, first in FIRST_RELEASE.items() if first <= EMBEDDED} <= known
    assert not {name for name, first in FIRST_RELEASE.items() if first > EMBEDDED} & known


def test_the_flags_are_those_of_a_closed_server() -> None:
    given = flags()
    assert (given["model-control-mode"], given["load-model"]) == ("explicit", "*")  # for the admin key, as the rest
    assert "disable-auto-complete-config" in given
    assert given["http-restricted-api"] == given["grpc-restricted-protocol"] == "{restriction}"
    assert f'CLOSED = "{OPERATOR_APIS}"\n' in START


def test_production_and_the_embedded_server_are_set_alike() -> None:
    given = flags()
    assert given["cache-config"] == f"local,size={CACHE_BYTES}"
    assert given["grpc-max-connection-age"] == str(CONNECTION_AGE_MS)
    assert given["grpc-http2-min-recv-ping-interval-without-data"] == str(PING_INTERVAL_MS)
    assert given["grpc-keepalive-permit-without-calls"] == "1"
    command = services(GPU)["triton"]["command"]
    assert (
        tuple(flag.removeprefix("--metrics-config=") for flag in command if "metrics-config" in flag) == METRICS_CONFIG
    )


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "m": 60}[unit]


def test_a_stopping_server_has_time_to_finish() -> None:
    found = services(GPU)
    assert seconds(found["triton"]["stop_grace_period"]) > float(flags()["exit-timeout-secs"] or 0)
    longest = gateway_parser().parse_args([]).seconds
    assert seconds(found["gateway"]["stop_grace_period"]) > longest + 5  # its own drain: gateway.cli.DRAIN_SECONDS


def test_triton_has_one_gpu_shared_memory_and_the_default_variant() -> None:
    triton = services(GPU)["triton"]
    (device,) = triton["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "1", "capabilities": ["gpu"]}
    assert triton["shm_size"] == "2gb"
    assert triton["ulimits"]["memlock"] == -1
    assert flags()["model-repository"] == f"/models/{default_variant().name}"
    assert services(GPU)["export"]["command"][:2] == ["export", default_variant().name]


def test_all_of_ours_are_hardened() -> None:
    for name, service in (services(GPU) | {"jaeger": services(TRACING)["jaeger"]}).items():
        assert service["user"].split(":")[0] not in ("0", "root"), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service, name
        assert "latest" not in service["image"], name
        assert ":" in service["image"], name


def test_the_order_of_starting() -> None:
    found = services(GPU)
    assert found["triton"]["depends_on"] == {"export": {"condition": "service_completed_successfully"}}
    assert found["gateway"]["depends_on"] == {"triton": {"condition": "service_healthy"}}
    for name in ("triton", "gateway"):
        assert found[name]["restart"] == "unless-stopped"
        assert found[name]["healthcheck"]["test"]
    assert "restart" not in found["export"]


def test_models_are_written_by_the_exporter_alone() -> None:
    found = services(GPU)
    assert "models:/models" in found["export"]["volumes"]
    assert "models:/models:ro" in found["triton"]["volumes"]
    assert not any("models" in volume for volume in found["gateway"]["volumes"])


def test_the_gateway_can_keep_and_serve_an_index() -> None:
    dockerfile = (ROOT / "deploy/docker/python.Dockerfile").read_text()
    image = dockerfile.partition(" AS gateway\n")[2].partition("\nFROM ")[0]
    assert "-r requirements/search.txt" in image
    (made,) = re.findall(r"install -d -o tritonclip -g tritonclip (.*)", dockerfile)
    gateway = services(GPU, {"GATEWAY_OPTIONS": "--index photos=/indexes/photos"})["gateway"]
    assert "/indexes" in made.split()
    assert "indexes:/indexes" in gateway["volumes"]
    assert gateway_parser().parse_args(gateway["command"].split()[1:]).index == [("photos", "/indexes/photos")]


@pytest.mark.parametrize("dockerfile", ["triton", "python"])
def test_compiled_code_outlives_a_container(dockerfile: str) -> None:
    """The root file system is read-only and /tmp in memory: without a place of its own each start compiles anew."""
    lines = (ROOT / f"deploy/docker/{dockerfile}.Dockerfile").read_text().splitlines()
    (folder,) = [line.split("=")[1] for line in lines if line.startswith("ENV NUMBA_CACHE_DIR=")]
    assert any(line.startswith("RUN") and "install -d -o" in line and folder in line for line in lines)
    assert f"compiled:{folder}" in services(GPU)["triton"]["volumes"]
    assert "volumes" not in services(CPU)["triton"], "they would have to be looked at too"


def test_nothing_is_traced_unless_an_endpoint_is_named() -> None:
    plain, named = services(GPU), services(GPU, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://mine:4318"})
    for name in ("triton", "gateway"):
        assert plain[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] is None  # YAML's way to say that it is empty
        assert named[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://mine:4318"


def test_the_override_sends_spans_to_a_collector_on_loopback() -> None:
    found = services(TRACING)
    for name in ("triton", "gateway"):
        endpoint = urlsplit(found[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"])
        assert (endpoint.hostname, endpoint.port) == ("jaeger", 4318)
        assert "jaeger" in services(GPU)[name]["environment"]["NO_PROXY"].split(",")
    assert published(found["jaeger"]) == {"16686": "127.0.0.1"}
    image = (ROOT / "deploy/docker/python.Dockerfile").read_text().partition(" AS gateway\n")[2].partition("\nFROM ")[0]
    assert "-r requirements/otel.txt" in image


def published(service: dict[str, Any]) -> dict[str, str]:
    return {port.rsplit(":", 1)[1]: port.rsplit(":", 2)[0] for port in service["ports"]}


def test_ports_listen_on_loopback_unless_told_otherwise() -> None:
    for settings_given, address in (({}, "127.0.0.1"), ({"BIND_ADDRESS": "0.0.0.0"}, "0.0.0.0")):
        found = services(GPU, settings_given)
        assert published(found["triton"]) == {"8000": address, "8001": address, "8002": "127.0.0.1"}
        assert published(found["gateway"]) == {"8080": address}
        embedded = services(CPU, settings_given)["triton"]  # an old Triton: never on an open network
        assert published(embedded) == {"8000": "127.0.0.1", "8001": "127.0.0.1", "8002": "127.0.0.1"}


def test_the_settings_example_has_every_setting_with_its_default() -> None:
    example = dict(re.findall(r"^#([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = settings(GPU)
    for file in (CPU, SECOND, SECOND_CPU, TRACING):
        for name, defaults in settings(file).items():
            used.setdefault(name, set()).update(defaults - {"demo"} if name == "VARIANT" else defaults)
    assert {name: {default} for name, default in example.items()} == used
    assert example["TRITONCLIP_VERSION"] == __version__


def test_commands_are_understood_by_the_programs_they_start() -> None:
    name, *arguments = services(GPU)["gateway"]["command"].split()
    assert name == "gateway"
    gateway = gateway_parser().parse_args(arguments)
    assert (gateway.host, gateway.port, gateway.url) == ("0.0.0.0", 8080, ["grpc://triton:8001"])
    name, *arguments = services(CPU)["triton"]["command"]
    assert name == "serve"
    embedded = serve_parser().parse_args(arguments)
    assert ([str(folder) for folder in embedded.repositories], embedded.address) == (["/models/demo"], "0.0.0.0")


def test_a_second_model_is_served_as_the_first_is_but_for_its_folder() -> None:
    first, second = services(GPU)["triton"]["command"], services(SECOND)["triton-second"]["command"]
    assert [flag for flag in first if "repository" not in flag] == [flag for flag in second if "repository" not in flag]
    embedded, other = services(CPU)["triton"], services(SECOND_CPU)["triton-second"]
    differ = {"command", "ports"}
    assert {name: embedded[name] for name in embedded.keys() - differ} == {
        name: other[name] for name in other.keys() - differ
    }
    assert serve_parser().parse_args(other["command"][1:]).address == "0.0.0.0"
    for file, published_to in ((SECOND, "0.0.0.0"), (SECOND_CPU, "127.0.0.1")):
        found = published(services(file, {"BIND_ADDRESS": "0.0.0.0"})["triton-second"])
        assert found == {"8000": published_to, "8001": published_to, "8002": "127.0.0.1"}


@pytest.mark.parametrize(("file", "first"), [(SECOND, default_variant().name), (SECOND_CPU, "demo")])
def test_the_gateway_is_told_of_a_second_model(file: str, first: str) -> None:
    name, *arguments = services(file, {"GATEWAY_OPTIONS": "--alias small=ViT-B-32-laion2b_s34b_b79k"})["gateway"][
        "command"
    ].split()
    assert name == "gateway"
    options = gateway_parser().parse_args(arguments)
    models = models_of(options.url)
    assert [*models] == [first, "ViT-B-32-laion2b_s34b_b79k"]
    assert [*models.values()] == ["grpc://triton:8001", "grpc://triton-second:8001"]
    assert aliases_of(options.alias, [*models]) == {"small": "ViT-B-32-laion2b_s34b_b79k"}


def test_no_proxy_stands_between_the_services() -> None:
    """An engine may be set to put one into the environment of every container."""
    found = services(GPU, {"NO_PROXY": "intranet.example"})
    for name in ("triton", "gateway", "grafana", "load-master", "load-worker"):
        spared = found[name]["environment"]["NO_PROXY"]
        assert found[name]["environment"]["no_proxy"] == spared, name  # gRPC reads this one alone
        assert {"intranet.example", "127.0.0.1", "triton", "triton-second", "gateway", "prometheus"} <= set(
            spared.split(",")
        ), name


def test_the_gateways_health_check_asks_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    command = services(GPU)["gateway"]["healthcheck"]["test"]
    assert command[:3] == ["CMD", "python", "-c"]
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    status = HTTPStatus.OK

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else HTTPStatus.NOT_FOUND)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = command[3].replace(":8080/", f":{server.server_port}/")
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0
        status = HTTPStatus.SERVICE_UNAVAILABLE
        assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode != 0
        server.shutdown()


@pytest.mark.parametrize("path", sorted((ROOT / "deploy/docker").glob("*.Dockerfile")), ids=lambda path: path.name)
def test_images_are_pinned_and_hold_no_weights_but_the_packages(path: Path) -> None:
    dockerfile = path.read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)", dockerfile, re.MULTILINE)
    bases = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) - {name for _, name in stages}
    arguments = dict(re.findall(r"^ARG (\w+)=(.*)$", dockerfile, re.MULTILINE))
    assert all(re.search(r":\d", Template(base).safe_substitute(arguments)) for base in bases)
    for line in re.findall(r"pip install (?:.*\\\n)*.*", dockerfile):
        assert "constraints.txt" in line
    let_in = re.findall(r"^!(.*)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert [name for name in let_in if name.startswith(("examples", "build"))] == ["examples/demo_model/demo"]
