"""What the benchmark of training says of its figures: a line for each number of images, and which aims are missed."""

from typing import Any

from load.training import PROBES, SIZES, aims, table


def result(zero_shot: int | None, head: float, probe: float) -> dict[str, Any]:
    shares = {"head": {size: [head, head] for size in SIZES}}
    probes = {name: {size: [probe] if size > 1 or name == "plain probe" else [] for size in SIZES} for name in PROBES}
    return {"zero_shot": zero_shot, "tested": 100, "classes": 5, "right": shares | probes}


def test_a_table_has_a_line_for_each_number_of_images() -> None:
    title, header, _, *lines = table("birds", result(60, 0.8, 0.7))
    assert title.startswith("birds: 5 classes, 100 images to test on, zero-shot 60.0 (50.2 to 69.1)")
    assert header == "| images a class | head | least | plain probe | tuned probe |"
    assert lines[0] == "| 1 | 80.0 | 80.0 | 70.0 |  |"
    assert lines[1:] == [f"| {size} | 80.0 | 80.0 | 70.0 | 70.0 |" for size in SIZES[1:]]
    assert "no texts" in next(table("birds", result(None, 0.8, 0.7)))


def test_each_aim_can_be_met_and_missed() -> None:
    assert not [line for line in aims({"birds": result(60, 0.81, 0.81)}) if "MISSED" in line]
    missed = [line for line in aims({"birds": result(60, 0.79, 0.8)}) if "MISSED" in line]
    assert len(missed) == 1 + len(SIZES)  # the errors that are gone, and the plain probe at each number of images
    assert len([line for line in aims({"birds": result(60, 0.4, 0.3)}) if "MISSED" in line]) == 2
    assert len(list(aims({"birds": result(90, 0.95, 0.9)}))) == 1 + len(SIZES)  # no errors to halve
    assert len(list(aims({"birds": result(None, 0.95, 0.9)}))) == len(SIZES)
