"""`python -m load.capacity tune`: tries other settings against the present one, and recommends one with the evidence.

A candidate is a copy of the served repository with one thing changed: how long a batch waits to grow, how large it
should grow, or how many instances a stage has. Each runs in turn with the present setting, both servers up. First the
present setting runs against a copy of itself, which shows what noise does; better is only what noise does not reach.
Where several changes are better, all of them together are tried at last.

The batch limit is `preferred_batch_size`: requests that bring more items themselves still fit. `max_batch_size` is a
promise to clients, and no setting.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from load.capacity.charts import draw_tuning
from load.capacity.compare import meter
from load.capacity.deployment import Embedded, embedded
from load.capacity.markdown import tuning_markdown
from load.capacity.options import add_common, output_folder, positive, say, work_of
from load.capacity.report import describe
from load.capacity.repositories import Edit, edited
from load.capacity.rounds import Ratio, in_turn, ratio
from load.capacity.workload import Closed, Work
from tritonclip_server.export.configs import read_config

LOGS = Path("build")


@dataclass(frozen=True)
class Candidate:
    """A change of some models' configs. `factor` names what it changes: of one factor only one change can be kept."""

    name: str
    factor: str
    edits: dict[str, Edit]


@dataclass(frozen=True)
class Trial:
    """What a candidate did against the present setting."""

    candidate: Candidate
    ratio: Ratio
    p95_ratio: float
    mean_batch: float
    outcomes: dict[str, int]

    def beats(self, noise: Ratio) -> bool:
        """Whether even its worst round is better than the present setting by more than noise ever was."""
        return min(self.ratio.rounds) > max(1.0, *noise.rounds)

    def to_json(self, noise: Ratio) -> dict[str, Any]:
        """For the report."""
        return {
            "name": self.candidate.name,
            "ratio": self.ratio.to_json(),
            "p95_ratio": round(self.p95_ratio, 4),
            "mean_batch": round(self.mean_batch, 3),
            "better": self.beats(noise),
            "outcomes": self.outcomes,
        }


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code: 1 where an answer was wrong or a request hung."""
    command = argparse.ArgumentParser(prog="python -m load.capacity tune", description=__doc__)
    add_common(command)
    command.add_argument("--concurrency", type=positive(int), default=32, help="clients (default: %(default)s)")
    for name, values, what in (
        ("--delays", (0, 500, 2000, 5000), "microseconds a batch of the encoder may wait to grow"),
        ("--batches", (4, 8, 16), "preferred batch sizes of the encoder"),
        ("--encoders", (1, 2, 3), "encoder instances"),
        ("--preparers", (1, 2, 3), "instances of the stage before the encoder"),
    ):
        shown = " ".join(map(str, values))
        command.add_argument(
            name, type=_whole, nargs="*", default=values, metavar="N", help=f"{what} (default: {shown})"
        )
    options = command.parse_args(arguments)
    work = work_of(options)
    with embedded(options.repository, LOGS / "tune-triton.log") as present:
        folder = output_folder(options, present, work)
        folder.mkdir(parents=True, exist_ok=True)
        document = asyncio.run(tune(present, work, options))
    document["charts"] = draw_tuning(document, folder)
    (folder / "tune.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    text = tuning_markdown(document, document["charts"])
    (folder / "tune.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    outcomes = [trial["outcomes"] for trial in document["candidates"]]
    return 1 if any(outcome["wrong"] or outcome["hung"] for outcome in outcomes) else 0


async def tune(present: Embedded, work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """All trials, as a document."""
    noise = (await _try(Candidate("the present setting, copied", "", {}), present, work, options)).ratio
    trials = [await _try(candidate, present, work, options) for candidate in candidates(present, work, options)]
    together = combine([trial for trial in trials if trial.beats(noise)])
    if together is not None:
        trials.append(await _try(together, present, work, options))
    return describe(present, work) | {
        "concurrency": options.concurrency,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "noise": {"low": min(noise.rounds), "high": max(noise.rounds), **noise.to_json()},
        "candidates": [trial.to_json(noise) for trial in trials],
        "recommendation": recommend(trials, noise),
    }


def candidates(present: Embedded, work: Work, options: argparse.Namespace) -> list[Candidate]:
    """Every change asked for that is one: what the repository has already is left out."""
    encoder = work.encoder
    preparer = "text_tokenize" if work.task == "embed_text" else "image_preprocess"
    found = [
        *(_one(encoder, "queue delay", f"{delay} µs", _set_delay(delay)) for delay in options.delays),
        *(_one(encoder, "preferred batch", str(size), _set_batch(size)) for size in options.batches),
        *(_one(encoder, "instances", str(count), _set_instances(count)) for count in options.encoders),
        *(_one(preparer, "instances", str(count), _set_instances(count)) for count in options.preparers),
    ]
    return [candidate for candidate in found if _changes(candidate, present.repository)]


def combine(winners: Sequence[Trial]) -> Candidate | None:
    """The best change of each factor, all together; None where that is no more than one change."""
    best: dict[str, Trial] = {}
    for trial in winners:
        factor = trial.candidate.factor
        if factor not in best or trial.ratio.median > best[factor].ratio.median:
            best[factor] = trial
    if len(best) < 2:
        return None
    edits: dict[str, list[Edit]] = {}
    for trial in best.values():
        for model, edit in trial.candidate.edits.items():
            edits.setdefault(model, []).append(edit)
    name = "; ".join(trial.candidate.name for trial in best.values())
    return Candidate(name, "all", {model: _in_sequence(parts) for model, parts in edits.items()})


def recommend(trials: Sequence[Trial], noise: Ratio) -> dict[str, Any]:
    """The candidate with the best median among those that noise does not explain; else no change."""
    better = [trial for trial in trials if trial.beats(noise)]
    if not better:
        best = max((trial.ratio.median for trial in trials), default=1.0)
        text = f"No change: no candidate was better than noise (best median {best:.3f} of the present setting)."
        return {"change": None, "ratio": None, "text": text}
    best_trial = max(better, key=lambda trial: trial.ratio.median)
    rounds = ", ".join(f"{value:.3f}" for value in best_trial.ratio.rounds)
    text = f"Set {best_trial.candidate.name}: {best_trial.ratio.median:.3f} of the present setting (rounds: {rounds})."
    return {"change": best_trial.candidate.name, "ratio": best_trial.ratio.to_json(), "text": text}


async def _try(candidate: Candidate, present: Embedded, work: Work, options: argparse.Namespace) -> Trial:
    say(candidate.name)
    load = Closed(options.concurrency)
    with (
        edited(present.repository, candidate.edits) as repository,
        embedded(repository, LOGS / "tune-candidate-triton.log") as changed,
    ):
        async with (
            meter(present, work, load, options.seconds) as base,
            meter(changed, work, load, options.seconds) as other,
        ):
            rates = await in_turn({"present": base, "candidate": other}, options.rounds, say)
    return Trial(
        candidate,
        ratio(rates["candidate"], rates["present"]),
        other.p95_ms() / base.p95_ms(),
        other.mean_batch(work.encoder),
        other.outcomes(),
    )


def _whole(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def _one(model: str, what: str, value: str, edit: Edit) -> Candidate:
    return Candidate(f"{model}: {what} {value}", f"{model}: {what}", {model: edit})


def _changes(candidate: Candidate, repository: Path) -> bool:
    for model, edit in candidate.edits.items():
        present = read_config(repository / model / "config.pbtxt")
        changed = ModelConfig.FromString(present.SerializeToString())
        edit(changed)
        if changed != present:
            return True
    return False


def _set_delay(microseconds: int) -> Edit:
    def edit(config: ModelConfig) -> None:
        config.dynamic_batching.max_queue_delay_microseconds = microseconds

    return edit


def _set_batch(size: int) -> Edit:
    def edit(config: ModelConfig) -> None:
        config.dynamic_batching.preferred_batch_size[:] = [size]

    return edit


def _set_instances(count: int) -> Edit:
    def edit(config: ModelConfig) -> None:
        for group in config.instance_group:
            group.count = count

    return edit


def _in_sequence(edits: Sequence[Edit]) -> Edit:
    def edit(config: ModelConfig) -> None:
        for part in edits:
            part(config)

    return edit
