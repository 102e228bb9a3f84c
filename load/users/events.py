"""What Locust calls around the users: options, preparation, the shape, and the verdict.

    --scenario ─> ScenarioShape: users at each moment                       every process with users
                  test_start: images and right answers ─> RUN.workload      └─ fails: "unprepared" to the master, which
                  test_stop: figures, verdicts, JSON report, exit code                 ends the run with exit code 2

The master's options reach its workers with each run, the key too.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import httpx
from locust import LoadTestShape, User, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from load.core import clients_gevent
from load.core.workload import PATIENCE, WrongModel, ask
from load.users.report import figures_of, report
from load.users.scenarios import PROTOCOLS, SCENARIOS, Scenario, read_scenarios
from load.users.shapes import users_at
from load.users.tables import TableError
from load.users.thresholds import THRESHOLDS, Thresholds, judge, read_thresholds
from load.users.workload import Inputs, Workload, make_inputs, prepare
from tritonclip import Client

UNPREPARED = "unprepared"
MISSED, COULD_NOT_RUN = 1, 2  # exit codes
LAST_REPORTS = 4.0  # seconds in which every worker has told the master what it counted last; they do every 3
URLS = {  # by protocol: option and default; right answers are asked over the first that a scenario uses
    "grpc": ("--triton-grpc-url", "grpc://localhost:8001"),
    "http": ("--triton-http-url", "http://localhost:8000"),
    "gateway": ("--gateway-url", "http://localhost:8080"),
}


@cache
def known_scenarios() -> dict[str, Scenario]:
    """Those of the repository, or of the file that TRITONCLIP_SCENARIOS names; raises TableError."""
    return read_scenarios(Path(os.environ.get("TRITONCLIP_SCENARIOS") or SCENARIOS))


@dataclass
class Run:
    """The run in this process: what its users ask, or why they cannot; a number for each user; lines to print last."""

    workload: Workload | None = None
    failure: str | None = None
    numbers: Iterator[int] = field(default_factory=count)
    lines: Sequence[str] = ()


RUN = Run()


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Locust's own command line, and its page, get these."""
    add = parser.add_argument
    try:
        names = list(known_scenarios())
    except TableError as error:
        sys.exit(f"error: scenario {error}")
    about = "which load to make; load/users/scenarios.toml, or the file of TRITONCLIP_SCENARIOS, has them"
    add("--scenario", choices=names, default="smoke", env_var="TRITONCLIP_SCENARIO", help=about)
    for protocol, (option, url) in URLS.items():
        variable = f"TRITONCLIP_{protocol.upper()}_URL"
        add(option, dest=f"{protocol}_url", default=url, env_var=variable, help="default: %(default)s")
    private = {"include_in_web_ui": False}
    add("--api-key", default="", env_var="TRITONCLIP_API_KEY", help="for a gateway that asks for keys", **private)
    add("--thresholds", default=str(THRESHOLDS), help="the file of what scenarios must hold", **private)
    add("--report", default="", help="the JSON report (default: build/load/SCENARIO.json)", **private)


@events.init.add_listener
def start_process(environment: Environment, runner: Runner, **_: Any) -> None:
    """Refuse thresholds that cannot be read before anything starts; hear of workers that cannot start."""
    clients_gevent.patch()
    if isinstance(runner, WorkerRunner):
        return
    try:
        read_thresholds(Path(options_of(environment).thresholds))
    except TableError as error:
        sys.exit(f"error: thresholds of {error}")
    runner.register_message(UNPREPARED, lambda environment, msg, **_: give_up(environment, str(msg.data)))


@events.test_start.add_listener
def prepare_users(environment: Environment, **_: Any) -> None:
    """Make the images and ask for the right answers, in every process that has users."""
    scenario = scenario_of(environment)
    environment.stop_timeout = scenario.deadline  # what is under way when the run ends is waited for, and counted
    if isinstance(environment.runner, MasterRunner):
        return
    RUN.workload, RUN.numbers = None, count()
    try:
        # In a thread: a worker that makes images must not look dead to its master.
        inputs = gevent.get_hub().threadpool.apply(make_inputs, (scenario,))
        RUN.workload = _workload(environment, scenario, inputs)
    except Exception as error:  # whatever it was: without right answers there is no run
        runner: Any = environment.runner
        runner.send_message(UNPREPARED, f"{type(error).__name__}: {error}")


@events.test_stop.add_listener
def judge_run(environment: Environment, **_: Any) -> None:
    """Write the report, and say what was held and what was missed."""
    if isinstance(environment.runner, WorkerRunner):
        environment.stop_timeout = 0  # its users are gone, and Locust would sleep as long before it is ready again
        return
    if RUN.failure is None and not environment.stats.num_requests:
        give_up(environment, "no request was made")
    if RUN.failure is None:
        _judge(environment, scenario_of(environment))
    if not options_of(environment).headless:
        print_lines()


def _judge(environment: Environment, scenario: Scenario) -> None:
    options = options_of(environment)
    limits = read_thresholds(Path(options.thresholds)).get(scenario.name, Thresholds())
    figures = figures_of(environment.stats)
    verdicts = judge(limits, figures)
    path = Path(options.report or f"build/load/{scenario.name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    document = report(scenario, environment.stats, figures, verdicts)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    lines = [str(verdict) for verdict in verdicts] or [f"no thresholds for it in {options.thresholds}"]
    RUN.lines = [f"scenario {scenario.name}: {path}", *lines]
    # Without thresholds Locust's own rule holds: any failure is one.
    environment.process_exit_code = (0 if document["passed"] else MISSED) if verdicts else None


def give_up(environment: Environment, reason: str) -> None:
    """End the run, which could not take place, at the next tick of its shape."""
    RUN.failure = reason
    RUN.lines = [f"scenario {scenario_of(environment).name} could not run: {reason}"]
    environment.process_exit_code = COULD_NOT_RUN


@events.quit.add_listener
def print_lines(**_: Any) -> None:
    """The verdicts, once: as soon as they are known, or after Locust's own table where nobody looks at a page."""
    if RUN.lines:
        print(*RUN.lines, sep="\n", flush=True)
    RUN.lines = ()


class ScenarioShape(LoadTestShape):
    """The users of the scenario, in the proportions of its classes.

    Its time begins when the first level is reached, since preparing takes as long as it takes. At its end the users are
    sent home before the run stops, so that every request ends and every worker's last figures arrive.
    """

    def reset_time(self) -> None:
        """A new run."""
        super().reset_time()
        RUN.failure = None
        self._began: float | None = None
        self._emptied: float | None = None

    def tick(self) -> tuple[int, float, list[type[User]] | None] | None:
        """Users, how many of them to start per second, and their classes; None ends the run."""
        runner: Any = self.runner
        environment: Environment = runner.environment
        scenario, running, now = scenario_of(environment), self.get_current_user_count(), time.monotonic()
        classes = classes_of(scenario, environment)
        if not classes:
            give_up(environment, "it has none of the user classes that were chosen")
        if RUN.failure is not None:
            return None
        wanted = users_at(scenario, 0.0 if self._began is None else now - self._began)
        if self._began is None and wanted is not None and running >= wanted:
            self._began = now
        if wanted is None and running == 0:
            self._emptied = self._emptied or now
            if not isinstance(runner, MasterRunner) or now >= self._emptied + LAST_REPORTS:
                return None
        return wanted or 0, scenario.spawn_rate, classes


def options_of(environment: Environment) -> Any:
    """Locust's options with ours."""
    return environment.parsed_options


def scenario_of(environment: Environment) -> Scenario:
    """The scenario that is chosen."""
    return known_scenarios()[options_of(environment).scenario]


def classes_of(scenario: Scenario, environment: Environment) -> list[type[User]]:
    """The scenario's user classes, with its weights; of those that Locust was told to use, where it was."""
    weights = {str(name): weight for name, weight in scenario.classes.items()}
    chosen = [user for user in environment.user_classes if user.__name__ in weights]
    for user in chosen:
        user.weight = weights[user.__name__]
    return chosen


def number_of_user(environment: Environment) -> str:
    """A number for a new user, different in every worker, and the same in the next run."""
    runner: Any = environment.runner
    return f"{runner.worker_index}-{next(RUN.numbers)}"


def open_clients(names: Iterable[str], environment: Environment) -> dict[str, Any]:
    """New clients, by the names of their protocols."""
    key = options_of(environment).api_key
    return {name: clients_gevent.open_client(name, _url(name, environment), key) for name in names}


def _workload(environment: Environment, scenario: Scenario, inputs: Inputs) -> Workload:
    """Right answers come from Triton itself where the scenario goes there, so that they judge the gateway too."""
    used = {protocol for name in scenario.classes for protocol in PROTOCOLS[name]}
    name = next(protocol for protocol in URLS if protocol in used)
    url, probe = _url(name, environment), None
    if name == "gateway":  # it is ready when it answers the probe in its server's manifest rightly; it looks itself
        answer = httpx.get(f"{url.rstrip('/')}/health/ready", timeout=PATIENCE, trust_env=False)
        if not answer.is_success:
            raise WrongModel(f"the gateway is not ready: {answer.text[:200]}")
    else:
        with Client(url) as triton:
            probe = triton.manifest().raw.get("probe")
    with closing(open_clients([name], environment)[name]) as client:
        return ask(client, prepare(scenario, inputs, probe))


def _url(protocol: str, environment: Environment) -> str:
    return str(getattr(options_of(environment), f"{protocol}_url"))
