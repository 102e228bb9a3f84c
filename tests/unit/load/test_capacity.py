"""What a capacity report concludes: knee, split, limiting stage, ratios of rounds, and what tuning recommends."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from load.capacity.cli import main
from load.capacity.deployment import instance_counts, linked_copy, running, switch_batching_off
from load.capacity.meter import Step
from load.capacity.stages import limiting_stage, split, utilisation
from load.capacity.workload import Load
from load.core.checks import Outcome
from load.core.generator import Result
from load.core.knee import NotMeasurable, find_knee
from load.core.sender import Sample
from load.core.triton_stats import Counters
from load.core.turns import in_turn, ratio
from tritonclip_server.repository.configs import read_config

SOURCE = Path(__file__).resolve().parents[3] / "model_repository"


class TestKnee:
    def test_the_smallest_concurrency_near_the_best(self) -> None:
        knee = find_knee([(1, 20.0), (4, 60.0), (8, 96.0), (16, 100.0), (32, 98.0)])
        assert (knee.concurrency, knee.index, knee.goodput, knee.at_the_edge) == (8, 2, 96.0, False)

    def test_at_the_threshold_itself(self) -> None:
        assert find_knee([(1, 94.9), (2, 95.0), (4, 100.0)]).concurrency == 2

    def test_the_order_of_the_steps_does_not_matter(self) -> None:
        knee = find_knee([(16, 100.0), (8, 99.0), (1, 10.0)])
        assert (knee.concurrency, knee.index) == (8, 1)

    def test_still_growing_at_the_last_step(self) -> None:
        assert find_knee([(1, 10.0), (2, 20.0)]).at_the_edge

    def test_nothing_answered(self) -> None:
        for points in ([], [(1, 0.0), (2, 0.0)]):
            with pytest.raises(NotMeasurable):
                find_knee(points)


def stage(queue: float, compute: float, busy: float, requests: int = 10) -> Counters:
    """Milliseconds of a request, and seconds that its instances computed."""
    parts = {"queue": queue, "compute_input": 0.0, "compute_infer": compute, "compute_output": 0.0}
    sums = {part: requests * ms / 1000 for part, ms in parts.items()}
    return Counters(requests, items=requests, executions=5, busy_seconds=busy, parts=sums, executions_by_batch={2: 5})


def step_of(seconds: float = 10.0) -> Step:
    """Ten requests of 100 ms, of which the server had 80: 5 + 25 to decode, 10 + 38 to encode, 2 between them."""
    samples = [Sample(0.1, 0.1, Outcome.ANSWERED) for _ in range(10)]
    samples += [Sample(0.1, 9.0, Outcome.REFUSED)]  # belongs into no mean
    counters = {
        "embed_image": Counters(10, total=10 * 0.080),
        "image_preprocess": stage(5, 25, busy=12.0),
        "image_encoder": stage(10, 38, busy=8.0),
    }
    return Step(Load(4), Result(samples, 0.0, seconds, seconds), counters)


class TestStages:
    def test_split(self) -> None:
        found = split(step_of(), "embed_image")
        parts = {"client": 100, "server": 80, "network_and_client": 20, "handing_over": 2}
        assert {name: found[name] for name in parts} == pytest.approx(parts)
        assert list(found["stages"]) == ["image_preprocess", "image_encoder"]
        assert found["stages"]["image_encoder"] == pytest.approx(
            {"queue": 10, "compute_input": 0, "compute_infer": 38, "compute_output": 0}
        )

    def test_utilisation_and_the_limiting_stage(self) -> None:
        instances = {"image_preprocess": 2, "image_encoder": 1, "text_encoder": 1}
        assert utilisation(step_of(), instances) == pytest.approx({"image_preprocess": 0.6, "image_encoder": 0.8})
        limit = limiting_stage(step_of(), instances)
        assert limit is not None
        assert limit.stage == "image_encoder"
        assert limit.utilisation == pytest.approx(0.8)
        assert "80%" in limit.reason
        assert "image_preprocess 60%" in limit.reason
        more = limiting_stage(step_of(), {"image_preprocess": 2, "image_encoder": 4})
        assert more is not None
        assert more.stage == "image_preprocess", "with more encoders the other stage limits"

    def test_where_instances_are_not_known_the_wait_decides(self) -> None:
        limit = limiting_stage(step_of(), {})
        assert limit is not None
        assert (limit.stage, limit.utilisation) == ("image_encoder", None)
        assert limit.queue_ms == pytest.approx(10)

    def test_no_stage_at_all(self) -> None:
        assert limiting_stage(Step(Load(1), Result([], 0, 1, 1), {}), {}) is None

    def test_somebody_else_is_asking_too(self) -> None:
        assert step_of().counted_all("embed_image")
        assert not step_of().counted_all("compare")


class TestRounds:
    def test_everything_runs_in_every_round_in_turn(self) -> None:
        order: list[str] = []

        def measurement(name: str) -> Any:
            async def measure() -> float:
                order.append(name)
                return float(len(order))

            return measure

        rates = asyncio.run(in_turn({"a": measurement("a"), "b": measurement("b")}, 3))
        assert order == ["a", "b", "b", "a", "a", "b"]
        assert rates == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}

    def test_ratios_are_of_the_same_round(self) -> None:
        found = ratio([10.0, 30.0, 40.0], [10.0, 20.0, 40.0])
        assert found == {"median": 1.0, "rounds": [1.0, 1.5, 1.0]}
        with pytest.raises(NotMeasurable):
            ratio([1.0], [0.0])


class TestRepositories:
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        for model in ("image_encoder", "similarity"):
            (tmp_path / "served" / model / "1").mkdir(parents=True)
            text = (SOURCE / model / "config.pbtxt").read_text()
            (tmp_path / "served" / model / "config.pbtxt").write_text(text)
            (tmp_path / "served" / model / "1" / "model.pt").write_bytes(b"weights")
        return tmp_path / "served"

    def test_batching_is_off_in_the_copy_alone(self, repository: Path) -> None:
        config = repository / "image_encoder" / "config.pbtxt"
        original = config.read_text()
        with linked_copy(repository) as copy:
            switch_batching_off(copy)
            changed = read_config(copy / "image_encoder" / "config.pbtxt")
            assert not changed.HasField("dynamic_batching")
            assert changed.max_batch_size == 64, "requests of several items still fit"
            assert (copy / "image_encoder" / "1" / "model.pt").read_bytes() == b"weights"
            for untouched in ("similarity/config.pbtxt", "image_encoder/1/model.pt"):
                assert (copy / untouched).read_bytes() == (repository / untouched).read_bytes()
        assert config.read_text() == original
        assert (repository / "image_encoder" / "1" / "model.pt").read_bytes() == b"weights"
        assert not copy.exists()

    def test_instances_are_those_of_the_configs(self, repository: Path) -> None:
        path = repository / "image_encoder" / "config.pbtxt"
        config = read_config(path)
        del config.instance_group[:]
        for count in (2, 3):
            config.instance_group.add(count=count)
        path.write_text(text_format.MessageToString(config))
        assert instance_counts(repository)["image_encoder"] == 5


class TestCommand:
    def test_statistics_come_over_grpc(self) -> None:
        with pytest.raises(NotMeasurable, match="must be grpc://"):
            running("http://127.0.0.1:8000", None)

    def test_no_repository(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--repository", str(tmp_path / "none")]) == 2
        assert "no such folder" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "arguments",
        [["--concurrency", "0"], ["--rates", "-1"], ["--size", "640"], ["--url", "grpc://x:1", "--batching"]],
    )
    def test_options_that_cannot_be(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
