"""What a run gained and what it cost: report.json, report.md and a chart of the mixtures, beside the weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure  # without pyplot: it draws into files, and asks for no screen

from tritonclip.evaluation import Proportion
from tritonclip_server.finetune.data import LISTED
from tritonclip_server.finetune.sweep import Point

WIDTH, HEIGHT, DOTS_PER_INCH = 7.0, 4.5, 120
CHART = "tradeoff.png"


@dataclass(frozen=True)
class Report:
    """A run's mixtures and the chosen one. `about` is what JSON says beside: model, data and recipe."""

    points: Sequence[Point]
    chosen: Point
    most_lost: float  # points that the chosen mixture may lose on what is kept
    unreadable: Mapping[str, str]
    about: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write all three files."""
        document = {
            **self.about,
            "chosen_alpha": self.chosen.alpha,
            "rule": self.rule,
            "mixtures": [_json(point) for point in self.points],
            "unreadable": dict(self.unreadable),
        }
        (folder / "report.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        (folder / "report.md").write_text(self.markdown(), encoding="utf-8")
        _chart(self, folder / CHART)

    @property
    def rule(self) -> str:
        """How the mixture was chosen, in words."""
        points = "1 point" if self.most_lost == 1 else f"{self.most_lost:g} points"
        limit = f", of those that lose at most {points} on what is kept" if self.chosen.keep else ""
        return f"the best on the validation images{limit}; of equals the nearest to the start"

    def markdown(self) -> str:
        """The mixtures as a table, top-1 with 95 % intervals."""
        columns = [name for name in ("validation", "keep", "test") if getattr(self.chosen, name) is not None]
        lines = [
            f"# {self.about['model']}, fine-tuned",
            "",
            f"Alpha 0 is the start, 1 the fine-tuned model. Chosen: {self.chosen.alpha:g}, {self.rule}.",
            "",
            f"| alpha | {' | '.join(columns)} |",
            f"|---|{'---|' * len(columns)}",
        ]
        for point in self.points:
            cells = " | ".join(_cell(getattr(point, name)) for name in columns)
            mark = " *" if point is self.chosen else ""
            lines.append(f"| {point.alpha:g}{mark} | {cells} |")
        lines += ["", f"![accuracy of the mixtures]({CHART})"]
        if self.unreadable:
            some = [f"- {name}: {reason}" for name, reason in list(self.unreadable.items())[:LISTED]]
            images = "1 image" if len(self.unreadable) == 1 else f"{len(self.unreadable)} images"
            lines += ["", f"{images} could not be read:", "", *some]
        return "\n".join(lines) + "\n"


def _json(point: Point) -> dict[str, Any]:
    scores = {"validation": point.validation, "keep": point.keep, "test": point.test}
    return {"alpha": point.alpha} | {name: _score(score) for name, score in scores.items() if score is not None}


def _score(score: Proportion) -> dict[str, float]:
    return {"top1": score.value, "low": score.low, "high": score.high, "right": score.successes, "images": score.trials}


def _cell(score: Proportion) -> str:
    return f"{score.value:.1%} ({score.low:.1%} to {score.high:.1%})"


def _chart(report: Report, path: Path) -> None:
    """New task over what is kept, a dot a mixture; over alpha where nothing is to be kept."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    kept = [point.keep for point in report.points if point.keep is not None]
    across = [100 * score.value for score in kept] or [point.alpha for point in report.points]
    for name in ("validation", "test"):
        scores = [getattr(point, name) for point in report.points]
        if scores[0] is not None:
            axes.plot(across, [100 * score.value for score in scores], "o-", label=name)
    for x, point in zip(across, report.points, strict=True):
        axes.annotate(
            f"{point.alpha:g}", (x, 100 * point.validation.value), (4, 4), textcoords="offset points", fontsize=8
        )
        if point is report.chosen:
            axes.plot(
                x, 100 * point.validation.value, "o", markersize=14, fillstyle="none", color="0.3", label="chosen"
            )
    axes.set_xlabel("what is kept: top-1, %" if kept else "alpha")
    axes.set_ylabel("new task: top-1, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=DOTS_PER_INCH)
