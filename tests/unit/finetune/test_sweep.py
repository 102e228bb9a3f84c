"""Mixtures: which is chosen, and what the report says of them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tritonclip.evaluation import Proportion
from tritonclip_server.finetune.report import CHART, Report
from tritonclip_server.finetune.sweep import Point, choose


def points(validation: list[int], keep: list[int] | None = None) -> list[Point]:
    """Mixtures with so many right of 100."""
    kept = [None] * len(validation) if keep is None else [Proportion(right, 100) for right in keep]
    return [
        Point(number / (len(validation) - 1), Proportion(right, 100), other, None)
        for number, (right, other) in enumerate(zip(validation, kept, strict=True))
    ]


@pytest.mark.parametrize(
    ("validation", "keep", "most_lost", "chosen"),
    [
        ([10, 50, 80, 70], None, 1, 2),  # nothing to keep: the best
        ([10, 50, 80, 80], None, 1, 2),  # of equals the nearest to the start
        ([10, 50, 80, 90], [90, 89, 88, 40], 1, 1),  # the best that loses a point at most
        ([10, 50, 80, 90], [90, 89, 88, 40], 2, 2),
        ([10, 50, 80, 90], [90, 89, 88, 40], 100, 3),
        ([10, 50, 80, 90], [90, 60, 50, 40], 1, 0),  # none but the start keeps enough
        ([10, 50, 80, 90], [90, 95, 99, 99], 0, 3),  # a gain is no loss
    ],
)
def test_the_chosen_mixture(validation: list[int], keep: list[int] | None, most_lost: float, chosen: int) -> None:
    found = points(validation, keep)
    assert choose(found, most_lost) is found[chosen]


def test_a_report_has_every_mixture_and_the_rule(tmp_path: Path) -> None:
    found = points([10, 50, 80], [90, 89, 40])
    Report(found, found[1], 1.0, {"a.png": "truncated PNG"}, {"model": "demo", "epochs": 10}).write(tmp_path)
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["chosen_alpha"] == 0.5
    assert "lose at most 1 point" in document["rule"]
    assert [mixture["alpha"] for mixture in document["mixtures"]] == [0, 0.5, 1]
    assert document["mixtures"][2]["keep"]["top1"] == 0.4
    assert document["unreadable"] == {"a.png": "truncated PNG"}
    assert (document["model"], document["epochs"]) == ("demo", 10)
    text = (tmp_path / "report.md").read_text()
    assert "| 0.5 * | 50.0% (40.4% to 59.6%) | 89.0% (81.4% to 93.7%) |" in text
    assert "1 image could not be read" in text
    assert Image.open(tmp_path / CHART).size[0] > 400


def test_a_report_without_data_to_keep_speaks_of_none(tmp_path: Path) -> None:
    found = points([10, 50])
    report = Report(found, found[1], 1.0, {}, {"model": "demo"})
    report.write(tmp_path)
    assert "keep" not in (tmp_path / "report.md").read_text()
    assert "kept" not in report.rule
