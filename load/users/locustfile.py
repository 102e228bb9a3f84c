"""The users: `locust -f load/locustfile.py`, from the root of the repository. docs/load.md says how to use them.

What they ask, how often and for how long is in load/users/scenarios.toml; `--scenario` names one. Every answer is
checked: a wrong vector is a failure, whatever its status says.
"""

import random
import time
from typing import Any

import gevent
from gevent import GreenletExit
from gevent.pool import Group
from locust import User, task
from locust.env import Environment

from load.core.checks import Check, Outcome
from load.core.protocols import Prepared
from load.core.sender import BlockingClient, send
from load.users.events import RUN, ScenarioShape, number_of_user, open_clients
from load.users.scenarios import PROTOCOLS, tasks_of
from load.users.shapes import gaps
from load.users.workload import Fault

__all__ = ["GatewayUser", "MixedUser", "ScenarioShape", "TextUser", "TritonGrpcUser", "TritonHttpUser"]

REST = 0.05  # seconds that a user of a closed loop waits after a failure: asking again at once would be a flood


class ScenarioUser(User):
    """Asks what the scenario says, over the protocols of its class.

    In a closed loop it waits for each answer and thinks; in an open loop it is a source of arrivals at random, none of
    which waits for another.
    """

    abstract = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._under_way = Group()
        self._clients: dict[str, Any] = {}

    def on_start(self) -> None:
        """Open the clients; in an open loop, wait for the first arrival."""
        if RUN.workload is None:  # the server could not be asked for the right answers, which ends the run
            raise GreenletExit
        self._workload, self._scenario = RUN.workload, RUN.workload.scenario
        self._generator = random.Random(f"{self._scenario.seed} {number_of_user(self.environment)}")  # noqa: S311
        self._clients = open_clients(PROTOCOLS[type(self).__name__], self.environment)
        self._next = self._draw()
        if self._scenario.is_open:
            self._gaps = gaps(self._scenario, self._generator)
            self._due = time.perf_counter()
            self.wait()

    def on_stop(self) -> None:
        """Wait for what is under way, and close."""
        self._under_way.join()
        for client in self._clients.values():
            client.close()

    def wait_time(self) -> float:
        """Seconds to think, or to the next arrival."""
        if not self._scenario.is_open:
            return self._generator.uniform(*self._scenario.think_seconds)
        self._due += next(self._gaps)
        return max(0.0, self._due - time.perf_counter())

    @task
    def ask(self) -> None:
        """Send one request; the one after it is made while nobody's clock runs."""
        drawn = self._next
        if self._scenario.is_open:
            self._under_way.spawn(self._send, *drawn, self._due)
        elif not self._send(*drawn, time.perf_counter()):
            gevent.sleep(REST)
        self._next = self._draw()

    def _draw(self) -> tuple[BlockingClient, Prepared, Check]:
        client = self._clients[self._generator.choice(list(self._clients))]
        tasks = tasks_of(type(self).__name__, client.name, self._scenario)
        question = self._workload.draw(tasks, self._generator)
        return client, client.prepare(question.operation), question.check

    def _send(self, client: BlockingClient, request: Prepared, check: Check, since: float) -> bool:
        """Send a request and report it to Locust; whether its answer was right."""
        sample = send(client, request, check, self._scenario.deadline, since)
        right = sample.outcome is Outcome.ANSWERED
        self.environment.events.request.fire(
            request_type=client.name,
            name=request.operation.name,
            response_time=1000 * sample.latency,
            response_length=sample.size,
            exception=None if right else Fault(sample.outcome, sample.note),
            context={},
        )
        return right


class TritonGrpcUser(ScenarioUser):
    """A program with the Triton server at hand, over gRPC."""


class TritonHttpUser(ScenarioUser):
    """The same over HTTP."""


class GatewayUser(ScenarioUser):
    """A program with an OpenAI client and the gateway's URL: embeddings, similarity, classify."""


class TextUser(ScenarioUser):
    """Embeds texts alone, over gRPC: a search box."""


class MixedUser(ScenarioUser):
    """Draws a protocol for each request."""
