"""Scenarios as data: what is read, and that whatever cannot be meant is named by scenario and key."""

from pathlib import Path
from typing import Any, get_args

import pytest

from load.users.scenarios import PROTOCOLS, Scenario, Task, UserClass, parse_scenario, read_scenarios, tasks_of
from load.users.tables import TableError
from load.users.thresholds import read_thresholds

LEAST: dict[str, Any] = {
    "about": "the least that a scenario must say",
    "classes": {"TritonGrpcUser": 1},
    "tasks": {"embed_image": 2, "embed_text": 1},
    "images": [{"width": 224, "height": 224}],
    "users": 4,
    "seconds": 10,
}


def scenario(**changes: Any) -> Scenario:
    return parse_scenario("mine", {key: value for key, value in (LEAST | changes).items() if value is not None})


def test_the_least_has_defaults() -> None:
    least = scenario()
    assert (least.users, least.seconds, least.deadline, least.rate, least.shape) == (4, 10, 30, None, "constant")
    assert (least.cache_hits, least.images_per_request, least.labels, least.label_set) == (0, 1, [4], None)
    (kind,) = least.images
    assert (kind.format, kind.count, kind.weight) == ("JPEG", 8, 1)


def test_all_that_can_be_said() -> None:
    said = scenario(
        loop="open", rate=12.5, shape="spike", spike_factor=5, spike_seconds=2, labels=[2, 64], cache_hits=1
    )
    assert (said.rate, said.spike_factor, said.spike_seconds, said.labels, said.cache_hits) == (12.5, 5, 2, [2, 64], 1)
    assert said.is_open
    assert scenario(shape="step", steps=2).steps == 2
    assert scenario(images=[{"width": 4032, "height": 3024, "format": "WEBP"}]).images[0].width == 4032


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("user", {"user": 4}),
        ("name", {"name": "another"}),
        ("classes", {"classes": {"NoSuchUser": 1}}),
        ("classes", {"classes": {}}),
        ("classes", {"classes": {"TextUser": 0}}),
        ("classes", {"classes": {"TextUser": 1}, "tasks": {"embed_image": 1}}),
        ("classes", {"tasks": {"classify": 1}}),
        ("classes", {"classes": {"MixedUser": 1}, "tasks": {"classify": 1}}),
        ("tasks", {"tasks": {"embed_video": 1}}),
        ("tasks", {"tasks": {"embed_text": -1}}),
        ("tasks", {"tasks": None}),
        ("about", {"about": ""}),
        ("users", {"users": 0}),
        ("users", {"users": 2.5}),
        ("users", {"users": True}),
        ("users", {"users": None}),
        ("seconds", {"seconds": 0}),
        ("seconds", {"seconds": "60"}),
        ("seconds", {"seconds": float("nan")}),
        ("spawn_rate", {"spawn_rate": 0}),
        ("deadline", {"deadline": 0}),
        ("cache_hits", {"cache_hits": 1.1}),
        ("think_seconds", {"think_seconds": [2, 1]}),
        ("think_seconds", {"think_seconds": 1}),
        ("think_seconds", {"loop": "open", "rate": 5, "think_seconds": [1, 2]}),
        ("loop", {"loop": "half-open"}),
        ("rate", {"rate": 5}),
        ("rate", {"loop": "open"}),
        ("rate", {"loop": "open", "rate": 0}),
        ("labels", {"labels": []}),
        ("labels", {"labels": [65]}),
        ("labels", {"labels": [20], "texts": 10}),
        ("images_per_request", {"images_per_request": 65}),
        ("texts", {"texts": 0}),
        ("seed", {"seed": -1}),
        ("images", {"images": None}),
        ("images", {"images": {"width": 224}}),
        ("images", {"images": [{"width": 4096, "height": 4096}]}),
        ("width", {"images": [{"width": 223, "height": 224}]}),
        ("height", {"images": [{"width": 224}]}),
        ("format", {"images": [{"width": 224, "height": 224, "format": "GIF"}]}),
        ("weight", {"images": [{"width": 224, "height": 224, "weight": 0}]}),
        ("sise", {"images": [{"width": 224, "height": 224, "sise": 3}]}),
        ("shape", {"shape": "saw"}),
        ("steps", {"steps": 3}),
        ("steps", {"shape": "step"}),
        ("steps", {"shape": "step", "steps": 5}),
        ("spike_factor", {"shape": "spike", "spike_seconds": 1}),
        ("spike_seconds", {"shape": "spike", "spike_factor": 2, "spike_seconds": 11}),
    ],
)
def test_what_cannot_be_meant_is_named(key: str, changes: dict[str, Any]) -> None:
    with pytest.raises(TableError) as refused:
        scenario(**changes)
    assert (refused.value.table, refused.value.key) == ("mine", key)
    assert "mine" in str(refused.value)
    assert key in str(refused.value)


@pytest.mark.parametrize("text", ["", "[a", "a = 1"])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scenarios.toml"
    path.write_text(text)
    with pytest.raises(TableError):
        read_scenarios(path)
    with pytest.raises(TableError):
        read_scenarios(tmp_path / "none.toml")


def test_the_repositorys_scenarios_cover_the_issue_and_have_thresholds() -> None:
    known = read_scenarios()
    assert read_thresholds().keys() == known.keys()
    assert {name for each in known.values() for name in each.classes} == set(PROTOCOLS) == set(get_args(UserClass))
    assert {name for each in known.values() for name in each.tasks} == set(get_args(Task))
    kinds = [kind for each in known.values() for kind in each.images]
    assert {kind.format for kind in kinds} == {"JPEG", "PNG", "WEBP"}
    assert min(kind.width for kind in kinds) == 224
    assert max(kind.width * kind.height for kind in kinds) == 12_000_000
    assert {each.shape for each in known.values()} == {"constant", "step", "spike"}
    assert {each.is_open for each in known.values()} == {True, False}


def test_who_can_do_what() -> None:
    every = scenario(
        classes={"GatewayUser": 1, "TextUser": 1},
        tasks={"embed_image": 1, "embed_text": 2, "compare": 1, "classify": 1},
    )
    assert tasks_of("TextUser", "grpc", every) == {"embed_text": 2}
    assert tasks_of("GatewayUser", "gateway", every).keys() == set(get_args(Task))
    assert tasks_of("MixedUser", "http", every).keys() == set(get_args(Task)) - {"classify"}
    stored = scenario(tasks={"classify": 1}, label_set="scenes")
    assert tasks_of("TritonGrpcUser", "grpc", stored) == {"classify": 1}
