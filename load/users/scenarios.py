"""Scenarios: what load to make, as data. `scenarios.toml` has them, a table each; docs/load.md explains every key.

    scenarios.toml ─> read_scenarios ─> Scenario ─> shapes: how many users, and when
                                            └─────> deck: what they ask

Whatever cannot be meant is a ScenarioError that names the scenario and the key.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from load.core.inputs import Spec
from load.users.tables import Table, TableError

SCENARIOS = Path(__file__).with_name("scenarios.toml")
WAYS = {  # of load/locustfile.py's classes; a MixedUser draws one for each request
    "TritonGrpcUser": ("grpc",),
    "TritonHttpUser": ("http",),
    "GatewayUser": ("gateway",),
    "TextUser": ("grpc",),
    "MixedUser": ("grpc", "http", "gateway"),
}
TASKS = ("embed_image", "embed_text", "compare", "classify")
TASKS_WITH_IMAGES = {"embed_image", "compare", "classify"}
SMALLEST_SIDE, LARGEST_SIDE = 224, 8192
MOST_PIXELS = 12_200_000  # a camera's "12 megapixels" are 4032 x 3024
MOST_ITEMS = 64  # images, and texts, that one request may hold

Loop = Literal["closed", "open"]
Shape = Literal["constant", "step", "spike"]


class ScenarioError(TableError):
    """A scenario that cannot be meant; `table` is its name, `key` what is wrong in it."""


@dataclass(frozen=True)
class Pictures:
    """A kind of picture: different files of one size and format, sent in proportion to `weight`."""

    spec: Spec
    weight: float


@dataclass(frozen=True)
class Step:
    """Users rise to their full number in `steps` equal steps of equal length."""

    steps: int


@dataclass(frozen=True)
class Spike:
    """For `seconds` in the middle there are `factor` times as many users."""

    factor: float
    seconds: float


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    `rate` (requests per second at `users` users) is of open loops alone, where each user is a source of its share.
    `shape` is None for a constant number of users. Times are in seconds.
    """

    name: str
    about: str
    classes: Mapping[str, float]
    tasks: Mapping[str, float]
    pictures: tuple[Pictures, ...]
    images_per_request: int
    texts: int
    labels: tuple[int, ...]
    label_set: str | None
    cache_hits: float
    users: int
    spawn_rate: float
    rate: float | None
    think_seconds: tuple[float, float]
    seconds: float
    deadline: float
    shape: Step | Spike | None
    seed: int

    @property
    def is_open(self) -> bool:
        """Whether requests arrive at a rate, whatever became of earlier ones."""
        return self.rate is not None


def read_scenarios(path: Path = SCENARIOS) -> dict[str, Scenario]:
    """All scenarios of a file, by name."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(path.name, "file", str(error)) from error
    if not document:
        raise ScenarioError(path.name, "file", "has no scenario")
    return {name: parse_scenario(name, values) for name, values in document.items()}


def parse_scenario(name: str, values: object) -> Scenario:
    """A scenario from its table."""
    table = Table(name, values, ScenarioError)
    classes = table.weights("classes", WAYS)
    tasks = table.weights("tasks", TASKS)
    seed = table.whole("seed", 0)
    users = table.whole("users", least=1, most=10_000)
    seconds = table.number("seconds", least=1.0, most=7 * 86_400)
    scenario = Scenario(
        name=name,
        about=table.text("about"),
        classes=classes,
        tasks=tasks,
        pictures=tuple(_pictures(kind, seed + number) for number, kind in enumerate(table.tables("pictures"))),
        images_per_request=table.whole("images_per_request", 1, least=1, most=MOST_ITEMS),
        texts=table.whole("texts", 64, least=1, most=10_000),
        labels=table.wholes("labels", [4], least=1, most=MOST_ITEMS),
        label_set=table.text("label_set") if table.has("label_set") else None,
        cache_hits=table.number("cache_hits", 0.0, most=1.0),
        users=users,
        spawn_rate=table.number("spawn_rate", min(users, 100), least=0.01, most=1000),
        rate=_rate(table),
        think_seconds=table.span("think_seconds", [0.0, 0.0], most=3600),
        seconds=seconds,
        deadline=table.number("deadline", 30.0, least=0.1, most=600),
        shape=_shape(table, seconds, users),
        seed=seed,
    )
    table.done()
    _check_together(table, scenario)
    return scenario


def _pictures(table: Table, seed: int) -> Pictures:
    width = table.whole("width", least=SMALLEST_SIDE, most=LARGEST_SIDE)
    height = table.whole("height", least=SMALLEST_SIDE, most=LARGEST_SIDE)
    if width * height > MOST_PIXELS:
        raise table.fault("pictures", f"{width} x {height} is more than 12 megapixels")
    encoded = cast(Literal["JPEG", "PNG", "WEBP"], table.choice("format", ("JPEG", "PNG", "WEBP"), "JPEG"))
    count = table.whole("count", 8, least=1, most=1000)
    weight = table.number("weight", 1.0, least=0.001)
    table.done()
    return Pictures(Spec(width, height, encoded, count, seed), weight)


def _rate(table: Table) -> float | None:
    if table.choice("loop", ("closed", "open"), "closed") == "open":
        if table.has("think_seconds"):
            raise table.fault("think_seconds", "an open loop waits for arrivals, not between requests")
        return table.number("rate", least=0.01, most=100_000)
    if table.has("rate"):
        raise table.fault("rate", "only an open loop has a rate")
    return None


def _shape(table: Table, seconds: float, users: int) -> Step | Spike | None:
    kind = table.choice("shape", ("constant", "step", "spike"), "constant")
    keys = {"step": ("steps",), "spike": ("spike_factor", "spike_seconds")}
    for other, names in keys.items():
        for key in names:
            if other != kind and table.has(key):
                raise table.fault(key, f"only the shape {other!r} has it")
    if kind == "step":
        return Step(table.whole("steps", least=2, most=users))
    if kind == "spike":
        return Spike(table.number("spike_factor", least=1.0, most=1000), table.number("spike_seconds", most=seconds))
    return None


def _check_together(table: Table, scenario: Scenario) -> None:
    """What each key allows by itself but all of them together do not."""
    with_images = TASKS_WITH_IMAGES & scenario.tasks.keys()
    if with_images and not scenario.pictures:
        raise table.fault("pictures", f"{', '.join(sorted(with_images))} need some")
    if max(scenario.labels) > scenario.texts:
        raise table.fault("labels", f"{max(scenario.labels)} texts are wanted, and there are {scenario.texts}")
    for name in scenario.classes:
        for way in WAYS[name]:
            if not tasks_of(name, way, scenario):
                hint = "TextUser embeds texts alone; without a label_set only the gateway classifies"
                raise table.fault("classes", f"{name} can do none of these tasks over {way} ({hint})")


def tasks_of(class_name: str, way: str, scenario: Scenario) -> dict[str, float]:
    """The tasks of a scenario that a user class can do over a way in, with their weights.

    Labels that come along are the gateway's alone: Triton classifies by a label set that it has stored.
    """
    return {
        task: weight
        for task, weight in scenario.tasks.items()
        if (class_name != "TextUser" or task == "embed_text")
        and (task != "classify" or way == "gateway" or scenario.label_set is not None)
    }
