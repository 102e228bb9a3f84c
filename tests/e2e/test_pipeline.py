"""`python -m load.capacity.pipeline` on the demonstration model: every figure must hang together."""

import json
from pathlib import Path

import pytest

from load.capacity.pipeline import main

pytestmark = pytest.mark.alone


def test_every_image_is_answered_and_its_cpu_time_found(
    demo_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--rounds", "1", "--seconds", "1", "--clients", "4", "--images-per-request", "3"]
    assert main([str(demo_repository), *options]) == 0
    found = json.loads((tmp_path / "build" / "pipeline.json").read_text())["repositories"][str(demo_repository)]
    assert found["outcomes"].pop("answered") > 0
    assert not any(found["outcomes"].values())
    assert {"tritonserver", "image_preprocess", "image_encoder"} <= set(found["cpu_ms_by_process"])
    assert found["cpu_ms"] == pytest.approx(sum(found["cpu_ms_by_process"].values()), abs=0.05)
    assert found["mean_batch"]["image_preprocess"] >= 3.0  # what a request carries stays together
    assert found["ratio"]["median"] == 1.0
