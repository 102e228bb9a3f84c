"""What a capacity report concludes: knee, split, limiting stage, ratios of rounds, and what tuning recommends."""

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from load.capacity.cli import main
from load.capacity.deployment import Embedded, instance_counts, running
from load.capacity.repositories import edited, without_batching
from load.capacity.rounds import Ratio, in_turn, ratio
from load.capacity.stages import limiting_stage, split, utilisation
from load.capacity.sweep import Step
from load.capacity.tune import Candidate, Trial, candidates, combine, recommend
from load.capacity.workload import Closed, Work
from load.core.checks import Outcome, Sample
from load.core.generator import Result
from load.core.knee import NotMeasurable, find_knee
from load.core.triton_stats import Batches, Counters
from tritonclip_server.export.configs import read_config

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
    return Counters(requests, items=requests, executions=5, parts=sums, batches={2: Batches(5, busy)})


def step_of(seconds: float = 10.0) -> Step:
    """Ten requests of 100 ms, of which the server had 80: 5 + 25 to decode, 10 + 38 to encode, 2 between them."""
    samples = [Sample(0.1, 0.1, Outcome.ANSWERED) for _ in range(10)]
    samples += [Sample(0.1, 9.0, Outcome.REFUSED)]  # belongs into no mean
    counters = {
        "embed_image": Counters(10, total=10 * 0.080),
        "image_preprocess": stage(5, 25, busy=12.0),
        "image_encoder": stage(10, 38, busy=8.0),
    }
    return Step(Closed(4), Result(samples, 0.0, seconds, seconds), counters)


class TestStages:
    def test_split(self) -> None:
        found = split(step_of(), "embed_image")
        assert found.client == pytest.approx(100)
        assert found.server == pytest.approx(80)
        assert found.network_and_client == pytest.approx(20)
        assert found.handing_over == pytest.approx(2)
        assert list(found.stages) == ["image_preprocess", "image_encoder"]
        document = found.to_json()
        assert document["stages"]["image_encoder"] == pytest.approx(
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
        assert limiting_stage(Step(Closed(1), Result([], 0, 1, 1), {}), {}) is None

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

        rates = asyncio.run(in_turn({"a": measurement("a"), "b": measurement("b")}, 3, lambda line: None))
        assert order == ["a", "b", "b", "a", "a", "b"]
        assert rates == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}

    def test_ratios_are_of_the_same_round(self) -> None:
        found = ratio([10.0, 30.0, 40.0], [10.0, 20.0, 40.0])
        assert found.to_json() == {"median": 1.0, "rounds": [1.0, 1.5, 1.0]}
        with pytest.raises(NotMeasurable):
            ratio([1.0], [0.0])


def trial(name: str, rounds: list[float], edits: dict[str, Callable[[ModelConfig], None]] | None = None) -> Trial:
    candidate = Candidate(name, name.split(":")[0], edits or {})
    return Trial(candidate, Ratio(rounds), 1.0, 4.0, dict.fromkeys(Outcome, 0))


class TestTuning:
    NOISE = Ratio([0.97, 1.02, 1.04])

    def test_what_noise_reaches_is_not_better(self) -> None:
        for rounds in ([1.03, 1.2, 1.3], [1.04, 1.04, 1.04], [0.9, 1.5, 1.5], [0.8, 0.8, 0.8]):
            assert not trial("delay: 1", rounds).beats(self.NOISE)
        assert trial("delay: 1", [1.05, 1.06, 1.07]).beats(self.NOISE)
        assert not trial("delay: 1", [0.95, 0.96, 0.97]).beats(Ratio([0.9, 0.91])), (
            "worse than now, whatever noise does"
        )

    def test_no_change(self) -> None:
        found = recommend([trial("delay: 1", [1.01, 1.03, 1.2]), trial("delay: 2", [0.9, 0.9, 0.9])], self.NOISE)
        assert found["change"] is None
        assert found["text"].startswith("No change")
        assert recommend([], self.NOISE)["change"] is None

    def test_the_best_of_those_that_are_better(self) -> None:
        trials = [
            trial("delay: 1", [1.06, 1.10, 1.12]),
            trial("delay: 2", [1.06, 1.20, 1.22]),
            trial("count: 3", [0.50, 9.00, 9.00]),
        ]
        found = recommend(trials, self.NOISE)
        assert found["change"] == "delay: 2"
        assert found["ratio"] == {"median": 1.2, "rounds": [1.06, 1.2, 1.22]}

    def test_winners_of_several_factors_are_tried_together(self) -> None:
        done: list[str] = []
        trials = [
            trial("delay: 1", [1.1], {"encoder": lambda config: done.append("delay 1")}),
            trial("delay: 2", [1.2], {"encoder": lambda config: done.append("delay 2")}),
            trial("count: 3", [1.3], {"encoder": lambda config: done.append("count 3")}),
        ]
        assert combine(trials[:2]) is None, "one factor: nothing to put together"
        assert combine([]) is None
        together = combine(trials)
        assert together is not None
        together.edits["encoder"](ModelConfig())
        assert done == ["delay 2", "count 3"]

    def test_candidates_are_what_the_repository_has_not(self) -> None:
        present = Embedded("", None, {}, "", SOURCE)  # type: ignore[arg-type]
        encoder = read_config(SOURCE / "image_encoder" / "config.pbtxt")
        delay = encoder.dynamic_batching.max_queue_delay_microseconds
        options = argparse.Namespace(
            delays=[delay, delay + 1],
            batches=[8],
            encoders=[sum(group.count for group in encoder.instance_group), 7],
            preparers=[9],
        )
        found = {candidate.name: candidate for candidate in candidates(present, Work(), options)}
        assert list(found) == [
            f"image_encoder: queue delay {delay + 1} µs",
            "image_encoder: preferred batch 8",
            "image_encoder: instances 7",
            "image_preprocess: instances 9",
        ]
        for candidate in found.values():
            for edit in candidate.edits.values():
                edit(encoder)
        assert encoder.dynamic_batching.max_queue_delay_microseconds == delay + 1
        assert list(encoder.dynamic_batching.preferred_batch_size) == [8]
        assert [group.count for group in encoder.instance_group] == [9]
        texts = [candidate.name for candidate in candidates(present, Work("embed_text"), options)]
        assert "text_tokenize: instances 9" in texts


class TestRepositories:
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        for model in ("image_encoder", "similarity"):
            (tmp_path / "served" / model / "1").mkdir(parents=True)
            text = (SOURCE / model / "config.pbtxt").read_text()
            (tmp_path / "served" / model / "config.pbtxt").write_text(text)
            (tmp_path / "served" / model / "1" / "model.pt").write_bytes(b"weights")
        return tmp_path / "served"

    def test_an_edited_copy_leaves_the_original_alone(self, repository: Path) -> None:
        original = (repository / "image_encoder" / "config.pbtxt").read_text()

        def edit(config: ModelConfig) -> None:
            config.dynamic_batching.max_queue_delay_microseconds = 12345

        with edited(repository, {"image_encoder": edit}) as copy:
            changed = read_config(copy / "image_encoder" / "config.pbtxt")
            assert changed.dynamic_batching.max_queue_delay_microseconds == 12345
            assert (copy / "image_encoder" / "1" / "model.pt").read_bytes() == b"weights"
            assert (copy / "similarity" / "config.pbtxt").is_file()
        assert (repository / "image_encoder" / "config.pbtxt").read_text() == original
        assert (repository / "image_encoder" / "1" / "model.pt").read_bytes() == b"weights"
        assert not copy.exists()

    def test_without_batching(self, repository: Path) -> None:
        with without_batching(repository) as copy:
            config = read_config(copy / "image_encoder" / "config.pbtxt")
            assert not config.HasField("dynamic_batching")
            assert config.max_batch_size == 64, "requests of several items still fit"
            assert (copy / "similarity" / "config.pbtxt").read_text() == (
                repository / "similarity" / "config.pbtxt"
            ).read_text()

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
        [["--concurrency", "0"], ["--rates", "-1"], ["--picture", "640"], ["--url", "grpc://x:1", "--batching"]],
    )
    def test_options_that_cannot_be(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
