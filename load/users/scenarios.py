"""Scenarios: what load to make, as data. `scenarios.toml` has them, a table each; docs/load.md explains every key.

    scenarios.toml ─> read_scenarios ─> Scenario ─> shapes: how many users, and when
                                            └─────> workload: what they ask

Whatever cannot be meant is a TableError that names the scenario and the key.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from load.core.inputs import Format, Spec
from load.users.tables import Table, TableError, parse_table, read_tables

SCENARIOS = Path(__file__).with_name("scenarios.toml")
PROTOCOLS = {  # of the user classes; a MixedUser draws one for each request
    "TritonGrpcUser": ("grpc",),
    "TritonHttpUser": ("http",),
    "GatewayUser": ("gateway",),
    "TextUser": ("grpc",),
    "MixedUser": ("grpc", "http", "gateway"),
}
MOST_PIXELS = 12_200_000  # a camera's "12 megapixels" are 4032 x 3024
MOST_ITEMS = 64  # images, and texts, that one request may hold

UserClass = Literal["TritonGrpcUser", "TritonHttpUser", "GatewayUser", "TextUser", "MixedUser"]
Task = Literal["embed_image", "embed_text", "compare", "classify"]
Weight = Annotated[float, Field(gt=0, le=1e6)]
Side = Annotated[int, Field(ge=224, le=8192)]
Items = Annotated[int, Field(ge=1, le=MOST_ITEMS)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


class ImageKind(Table):
    """Different files of one size and format, sent in proportion to `weight`."""

    width: Side
    height: Side
    format: Format = "JPEG"
    count: int = Field(8, ge=1, le=1000)
    weight: Weight = 1.0


class Scenario(Table):
    """One scenario. Times are in seconds.

    `rate` (requests per second at `users` users) is of open loops alone, where each user is a source of its share.
    """

    name: str
    about: str = Field(min_length=1)
    classes: dict[UserClass, Weight] = Field(min_length=1)
    tasks: dict[Task, Weight] = Field(min_length=1)
    images: list[ImageKind] = Field([])
    images_per_request: Items = 1
    texts: int = Field(64, ge=1, le=10_000)
    labels: list[Items] = Field([4], min_length=1)
    label_set: str | None = Field(None, min_length=1)
    cache_hits: float = Field(0.0, ge=0, le=1)
    loop: Literal["closed", "open"] = "closed"
    users: int = Field(ge=1, le=10_000)
    spawn_rate: float = Field(100.0, ge=0.01, le=1000)
    think_seconds: list[Seconds] = Field([0.0, 0.0], min_length=2, max_length=2)
    rate: float | None = Field(None, ge=0.01, le=100_000)
    seconds: float = Field(ge=1, le=7 * 86_400)
    deadline: float = Field(30.0, ge=0.1, le=600)
    shape: Literal["constant", "step", "spike"] = "constant"
    steps: int | None = Field(None, ge=2)
    spike_factor: float | None = Field(None, ge=1, le=1000)
    spike_seconds: float | None = Field(None, ge=0)
    seed: int = Field(0, ge=0)

    @property
    def is_open(self) -> bool:
        """Whether requests arrive at a rate, whatever became of earlier ones."""
        return self.loop == "open"

    def specs(self) -> list[Spec]:
        """The images of each kind."""
        return [
            Spec(kind.width, kind.height, kind.format, kind.count, self.seed + number)
            for number, kind in enumerate(self.images)
        ]


def read_scenarios(path: Path = SCENARIOS) -> dict[str, Scenario]:
    """All scenarios of a file, by name."""
    scenarios = {name: parse_scenario(name, values) for name, values in read_tables(path).items()}
    if not scenarios:
        raise TableError(path.name, "file", "has no scenario")
    return scenarios


def parse_scenario(name: str, values: Any) -> Scenario:
    """A scenario from its table."""
    if isinstance(values, dict):
        if "name" in values:
            raise TableError(name, "name", "a scenario's name is its table's")
        values = values | {"name": name}
    scenario = parse_table(Scenario, name, values)
    for key, reason in _contradictions(scenario):
        raise TableError(name, key, reason)
    return scenario


def _contradictions(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """What each key allows by itself but all of them together do not: key and reason."""
    given = scenario.model_fields_set
    for key, owner, owns in (
        ("rate", "an open loop", scenario.is_open),
        ("think_seconds", "a closed loop", not scenario.is_open),
        ("steps", "the shape 'step'", scenario.shape == "step"),
        ("spike_factor", "the shape 'spike'", scenario.shape == "spike"),
        ("spike_seconds", "the shape 'spike'", scenario.shape == "spike"),
    ):
        if key in given and not owns:
            yield key, f"only {owner} has it"
        if owns and getattr(scenario, key) is None:
            yield key, f"{owner} needs it"
    if scenario.think_seconds[0] > scenario.think_seconds[1]:
        yield "think_seconds", "goes from more to less"
    if (scenario.steps or 0) > scenario.users:
        yield "steps", f"more than the {scenario.users} users"
    if (scenario.spike_seconds or 0) > scenario.seconds:
        yield "spike_seconds", f"longer than the {scenario.seconds:g} s of the scenario"
    if any(kind.width * kind.height > MOST_PIXELS for kind in scenario.images):
        yield "images", "one of them is more than 12 megapixels"
    if not scenario.images and (needing := sorted(scenario.tasks.keys() - {"embed_text"})):
        yield "images", f"{', '.join(needing)} need some"
    if max(scenario.labels) > scenario.texts:
        yield "labels", f"{max(scenario.labels)} texts are wanted, and there are {scenario.texts}"
    for user in scenario.classes:
        for protocol in PROTOCOLS[user]:
            if not tasks_of(user, protocol, scenario):
                hint = "TextUser embeds texts alone; without a label_set only the gateway classifies"
                yield "classes", f"{user} can do none of these tasks over {protocol} ({hint})"


def tasks_of(user: str, protocol: str, scenario: Scenario) -> dict[str, float]:
    """The tasks of a scenario that a user class can do over a protocol, with their weights.

    Labels that come along are the gateway's alone: Triton classifies by a label set that it has stored.
    """
    return {
        task: weight
        for task, weight in scenario.tasks.items()
        if (user != "TextUser" or task == "embed_text")
        and (task != "classify" or protocol == "gateway" or scenario.label_set is not None)
    }
