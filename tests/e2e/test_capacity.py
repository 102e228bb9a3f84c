"""The capacity report on a real server: what it says is consistent with itself. How fast things are decides nothing."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import load.capacity.baseline
from load.capacity.cli import main
from load.capacity.deployment import STAGES
from load.core.triton_stats import PARTS
from tritonclip_server.embedded.server import Server

pytestmark = pytest.mark.alone

RUNS = 3  # at most
NOTHING_MEASURED = 2  # an exit code
CLIENTS = (1, 8)
IMAGE_STAGES = ["image_preprocess", "image_encoder"]
SHORT = ["--seconds", "1", "--rounds", "2", "--size", "160x120", "--images", "8"]


def measure(options: list[str]) -> int:
    """The command's exit code; it runs again where the machine stood still for a measurement."""
    for _ in range(RUNS):
        if (code := main(options)) != NOTHING_MEASURED:
            break
    return code


@pytest.fixture(scope="module")
def report(demo_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """One run with everything in it."""
    into = tmp_path_factory.mktemp("capacity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load.capacity.baseline, "PROBE_SECONDS", 0.1)
        options = ["--repository", str(demo_repository), "--into", str(into), "--batching", *SHORT]
        code = measure([*options, "--concurrency", *map(str, CLIENTS), "--rates", "20"])
    document: dict[str, Any] = json.loads((into / "report.json").read_text())
    assert code == 0
    return document, into


def test_every_answer_was_right(report: tuple[dict[str, Any], Path]) -> None:
    document, _ = report
    outcomes = dict(document["outcomes"])
    assert outcomes.pop("answered") > 0
    steps = [step["client"]["notes"] for step in document["closed_loop"] + document["open_loop"]]
    assert set(outcomes.values()) == {0}, (steps, document["versus_bare"]["notes"], document["batching"]["notes"])


def test_triton_counted_what_was_sent(report: tuple[dict[str, Any], Path]) -> None:
    document, _ = report
    assert [step["concurrency"] for step in document["closed_loop"]] == list(CLIENTS)
    assert [step["rate_per_s"] for step in document["open_loop"]] == [20]
    for step in document["closed_loop"] + document["open_loop"]:
        sent = step["sent"]["answered"]
        assert sent > 0
        assert step["counted_all"]
        assert step["models"]["embed_image"]["requests"] == sent
        assert [stage for stage in STAGES if stage in step["models"]] == IMAGE_STAGES
        for stage in IMAGE_STAGES:
            model = step["models"][stage]
            assert model["requests"] == model["items"] == sent
            by_size = {int(size): count for size, count in model["executions_by_batch"].items()}
            assert sum(by_size.values()) == model["executions"]
            assert sum(size * count for size, count in by_size.items()) == sent
            assert model["mean_batch"] == pytest.approx(sent / model["executions"], abs=1e-3)
            assert model["mean_batch"] >= 1
            assert 0 < model["utilisation"] <= 1.05, "a share of its processes' time; rounding and clocks aside"
    alone = document["closed_loop"][0]["models"]["image_encoder"]
    assert alone["mean_batch"] == 1, "one client's requests have nothing to be batched with"


def test_the_time_of_a_request_is_accounted_for(report: tuple[dict[str, Any], Path]) -> None:
    document, _ = report
    accounted = []
    for step in document["closed_loop"]:
        split = step["split_ms"]
        assert list(split["stages"]) == IMAGE_STAGES
        stages = [sum(split["stages"][stage][part] for part in PARTS) for stage in IMAGE_STAGES]
        assert sum(stages) + split["handing_over"] == pytest.approx(split["server"], abs=0.02)
        assert split["server"] + split["network_and_client"] == pytest.approx(split["client"], abs=0.02)
        assert all(part > 0 for part in stages)
        # Triton's clocks of the stages and of the whole are not the same ones, hence not exactly.
        accounted.append(sum(stages) == pytest.approx(split["server"], rel=0.25, abs=2))
        assert split["client"] > 0.9 * split["server"]
    assert any(accounted), "a Triton that stands still does so between two stages, too, but hardly in every step"


def test_findings_and_comparisons(report: tuple[dict[str, Any], Path]) -> None:
    document, _ = report
    assert document["knee"]["concurrency"] in CLIENTS
    assert document["limiting_stage"]["stage"] in IMAGE_STAGES
    batched = ("image_preprocess", "image_encoder", "text_tokenize", "text_encoder")
    assert document["instances"] == dict.fromkeys(batched, 2) | {"text_gate": 1, "similarity": 1}
    versus = document["versus_bare"]
    assert set(versus["images_per_s"]) == {"bare", "grpc", "http", "gateway"}
    for name, found in versus["served_over_bare"].items():
        pairs = zip(versus["images_per_s"][name], versus["images_per_s"]["bare"], strict=True)
        assert found["rounds"] == pytest.approx([served / bare for served, bare in pairs], rel=0.01)
        assert versus["outcomes"][name]["answered"] > 0
    batching = document["batching"]
    assert batching["mean_batch"]["off"] == 1.0, "batching off is off"
    assert len(batching["on_over_off"]["rounds"]) == 2


def test_the_report_for_people(report: tuple[dict[str, Any], Path]) -> None:
    document, into = report
    text = (into / "report.md").read_text()
    assert f"**Knee: {document['knee']['concurrency']} clients**" in text
    assert f"**Limit: {STAGES[document['limiting_stage']['stage']]}**" in text
    assert "agree with the client's" in text
    charts = re.findall(r"\]\((\w+\.png)\)", text)
    assert charts == document["charts"] == ["throughput.png", "batches.png", "stages.png", "arrivals.png"]
    for chart in charts:
        assert (into / chart).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("task", "stages"),
    [
        ("embed_text", ["text_tokenize", "text_encoder"]),
        ("compare", ["image_preprocess", "image_encoder", "text_gate", "text_tokenize", "text_encoder", "similarity"]),
    ],
)
def test_other_tasks_on_a_server_that_is_up(demo_server: Server, tmp_path: Path, task: str, stages: list[str]) -> None:
    options = ["--url", demo_server.grpc_url, "--into", str(tmp_path), "--task", task, "--concurrency", "4", *SHORT]
    assert measure([*options, "--images-per-request", "2"]) == 0
    document = json.loads((tmp_path / "report.json").read_text())
    (step,) = document["closed_loop"]
    assert list(step["split_ms"]["stages"]) == sorted(stages, key=list(STAGES).index)
    assert step["models"][task]["requests"] == step["sent"]["answered"] > 0
    assert step["models"][task]["cache_hits"] == 0, "texts from the response cache would measure the cache"
    first = step["models"][stages[0]]
    assert first["items"] == 2 * first["requests"]
    assert document["versus_bare"] is document["batching"] is None
    assert document["deployment"] == demo_server.grpc_url


@pytest.mark.long
def test_repositories_in_turn(demo_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One repository twice, its encoder exchanged for a free one; every image is answered and its CPU time found."""
    monkeypatch.chdir(tmp_path)
    options = ["--rounds", "2", "--seconds", "1", "--clients", "4", "--images-per-request", "3", "--free-encoder"]
    assert main(["compare", str(demo_repository), str(demo_repository), *options]) == 0
    first, second = json.loads((tmp_path / "build" / "compare.json").read_text())["repositories"]
    for found in (first, second):
        assert found["outcomes"].pop("answered") > 0
        assert not any(found["outcomes"].values())
        assert {"tritonserver", "image_preprocess", "image_encoder"} <= set(found["cpu_ms_by_process"])
        assert found["mean_batch"]["image_preprocess"] >= 3.0  # what a request carries stays together
        assert len(found["ratio"]["rounds"]) == len(found["rate_ratio"]["rounds"]) == 2
    assert first["ratio"]["rounds"] == first["rate_ratio"]["rounds"] == [1.0, 1.0]
