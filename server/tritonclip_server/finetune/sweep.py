"""WiSE-FT: models between the start and the fine-tuned one, what each knows of the new task, and which is chosen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tritonclip.evaluation import Proportion
from tritonclip_server.export.interpolation import mix
from tritonclip_server.finetune.accuracy import Exam

ALPHAS = tuple(tenth / 10 for tenth in range(11))  # 0 is the start, 1 the fine-tuned model
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Point:
    """A mixture and its top-1: on the validation share, on the data to be kept, and on images for figures alone."""

    alpha: float
    validation: Proportion
    keep: Proportion | None
    test: Proportion | None


@dataclass(frozen=True)
class Exams:
    """What mixtures are scored on; the second and third where they were given."""

    validation: Exam
    keep: Exam | None
    test: Exam | None


def sweep(
    model: Any, tokenizer: Any, start: Weights, tuned: Weights, exams: Exams, report: Callable[[str], None]
) -> list[Point]:
    """Score every mixture, in the place of the model's weights."""
    points = []
    model.eval()
    for alpha in ALPHAS:
        model.load_state_dict(mix(start, tuned, alpha))
        validation = exams.validation.score(model, tokenizer)
        keep = exams.keep.score(model, tokenizer) if exams.keep else None
        test = exams.test.score(model, tokenizer) if exams.test else None
        points.append(Point(alpha, validation, keep, test))
        scores = [score for score in (validation, keep, test) if score]
        report(f"alpha {alpha:.1f}: " + ", ".join(f"{score.value:.1%}" for score in scores))
    return points


def choose(points: list[Point], most_lost: float) -> Point:
    """The mixture that is best on the validation share, among those that lose at most so many points on what to keep.

    Points are percentage points against the start, whose alpha is 0. Of equals the one nearest to the start is chosen.
    """

    def lost(point: Point) -> float:
        return 100 * (points[0].keep.value - point.keep.value) if points[0].keep and point.keep else 0.0

    allowed = [point for point in points if lost(point) <= most_lost + 1e-9]  # rounding alone loses nothing
    return max(allowed, key=lambda point: (point.validation.value, -point.alpha))
