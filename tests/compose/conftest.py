"""A stack of docker-compose.yml with docker-compose.cpu.yml: built and started for the tests, taken down after them."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.compose_files import ROOT

FILES = ("-f", "docker-compose.yml", "-f", "docker-compose.cpu.yml", "-f", "tests/compose/in-memory.yml")


def docker(*arguments: str, check: bool = True, said: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run docker, with `said` on its standard input; what it answered is in the error where it fails."""
    done = subprocess.run(["docker", *arguments], cwd=ROOT, input=said, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


class Stack:
    """A compose project of its own name on free ports of loopback."""

    def __init__(self, name: str) -> None:
        self.name = name
        http, grpc, metrics, gateway, prometheus = free_port_ranges((2, 2, 2, 1, 1))
        self.http_port, self.grpc_port, self.gateway_port, self.prometheus_port = http, grpc, gateway, prometheus
        os.environ |= {
            "TRITON_HTTP_PORT": f"{http}-{http + 1}",
            "TRITON_GRPC_PORT": f"{grpc}-{grpc + 1}",
            "TRITON_METRICS_PORT": f"{metrics}-{metrics + 1}",
            "GATEWAY_PORT": str(gateway),
            "PROMETHEUS_PORT": str(prometheus),
            "TRITONCLIP_ADMIN_KEY": "for-the-tests",
        }

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run docker compose for this project; what it printed."""
        return self.run(*arguments, check=check).stdout

    def run(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """The same, with its exit code."""
        return docker("compose", "-p", self.name, *FILES, *arguments, check=check)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows of a service's containers, stopped ones too."""
        names = self.compose("ps", "-a", "-q", service).split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *names).stdout) if names else []
        return found

    def python(self, container: str, code: str) -> str:
        """Run Python inside a container."""
        return docker("exec", container, "python3", "-c", code).stdout.strip()

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail=200", check=False)

    def create_key(self) -> str:
        """A new API key, made as the operator makes one."""
        return self.compose("exec", "-T", "gateway", "tritonclip-server", "keys", "create", "tests").strip()

    def left_behind(self) -> list[str]:
        """Containers, networks and volumes that the engine still has of this project."""
        label = f"label=com.docker.compose.project={self.name}"
        listings = (("ps", "-a"), ("network", "ls"), ("volume", "ls"))
        return [line for listing in listings for line in docker(*listing, "-q", "--filter", label).stdout.split()]


def free_port_ranges(lengths: tuple[int, ...]) -> list[int]:
    """The first ports of ranges of these lengths, in which nothing listens."""
    firsts: list[int] = []
    candidate = 20_000 + os.getpid() % 10_000
    for length in lengths:
        while not all(is_free(candidate + offset) for offset in range(length)):
            candidate += length
        firsts.append(candidate)
        candidate += length
    return firsts


def is_free(port: int) -> bool:
    with ExitStack() as held:
        probe = held.enter_context(socket.socket())
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 400.0) -> None:
    """Return once the condition holds; the test fails where it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}"
        time.sleep(0.5)


def is_healthy(container: dict[str, Any]) -> bool:
    return bool(container["State"].get("Health", {}).get("Status") == "healthy")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Built and up, as `docker compose … up --wait` leaves it."""
    running = Stack(f"tritonclip-test-{os.getpid()}")
    try:
        running.compose("--profile", "load", "build", "--quiet")
        running.compose("up", "--wait")
        yield running
    except BaseException:
        print(running.logs())
        raise
    finally:
        running.compose("--profile", "*", "down", "--volumes", "--remove-orphans", check=False)


@pytest.fixture(scope="session")
def key(stack: Stack) -> str:
    """A key of the stack's gateway."""
    return stack.create_key()
