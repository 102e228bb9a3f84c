"""An evaluation's report, once, and the three ways to write it: for a terminal, as Markdown, as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tritonclip._errors import TritonClipError
from tritonclip.cli import _output
from tritonclip.cli._usage import UsageError
from tritonclip.evaluation import Proportion

FORMATS: Final = ("table", "json", "markdown")
_SUFFIXES: Final = {".md": "markdown", ".json": "json", ".txt": "table"}
_ROWS_SHOWN: Final = 20  # of a long table on a terminal; the other formats have all of them
_DECIMALS: Final = 2
_HEADER = ("measure", "percent", "low", "high", "correct", "of", "published", "difference", "published is")


@dataclass(frozen=True)
class Measure:
    """A measured share and, where there is one, the published figure in percent."""

    name: str
    share: Proportion
    published: float | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus published, in points of a percent."""
        return None if self.published is None else round(100 * self.share.value - self.published, 2)

    @property
    def inside(self) -> bool | None:
        """Whether the published figure lies in the measured one's interval."""
        return None if self.published is None else self.share.low <= self.published / 100 <= self.share.high

    def row(self) -> list[object]:
        """The cells under the header: percent, its interval, counts, and the comparison."""
        share = self.share
        row = [self.name, *map(percent, (share.value, share.low, share.high)), share.successes, share.trials]
        if self.published is None:
            return [*row, "", "", ""]
        return [*row, self.published, self.difference, "inside the interval" if self.inside else "OUTSIDE the interval"]


@dataclass(frozen=True)
class Table:
    """Rows under a header; ``key`` is its name in JSON."""

    key: str
    title: str
    header: Sequence[str]
    rows: Sequence[_output.Row]


@dataclass(frozen=True)
class Report:
    """What was measured on what, the measures, details, and the errors of what could not be scored, by name.

    The keys of ``facts`` are those of the JSON document; people read them with spaces.
    """

    title: str
    facts: Mapping[str, object]
    measures: Sequence[Measure]
    tables: Sequence[Table] = ()
    failures: Mapping[str, TritonClipError] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def render(self, format_: str) -> str:
        """The report in one of FORMATS."""
        return {"table": _to_text, "markdown": _to_markdown, "json": _to_json}[format_](self)

    def all_tables(self) -> list[Table]:
        """The measures and the details, as people read them."""
        compared = any(measure.published is not None for measure in self.measures)
        columns = len(_HEADER) if compared else len(_HEADER) - 3
        rows = [measure.row()[:columns] for measure in self.measures]
        measures = Table("measures", "Measured, with 95 % intervals", _HEADER[:columns], rows)
        return [measures, *(table for table in self.tables if table.rows)]

    def reasons(self) -> dict[str, str]:
        """Why items could not be scored, by name."""
        return {name: _output.reason(error) for name, error in self.failures.items()}

    def shown_facts(self) -> dict[str, object]:
        """The facts as people read them."""
        return {name.replace("_", " "): value for name, value in self.facts.items() if value is not None}


def report_format(path: str) -> str:
    """The format of a report file, by its name's ending."""
    try:
        return _SUFFIXES[Path(path).suffix.lower()]
    except KeyError:
        raise UsageError(f"--report {path}: its name must end in {', '.join(_SUFFIXES)}") from None


def percent(share: float) -> float:
    """A share in percent, to the second decimal."""
    return round(100 * share, 2)


def _to_text(report: Report) -> str:
    facts = {name: _output.to_cell(value, _DECIMALS) for name, value in report.shown_facts().items()}
    width = max(map(len, facts)) + 2
    lines = [report.title, "", *(f"{name:<{width}}{value}" for name, value in facts.items())]
    for table in report.all_tables():
        lines += ["", table.title, _output.to_table(table.header, table.rows[:_ROWS_SHOWN], _DECIMALS).rstrip()]
        if (hidden := len(table.rows) - _ROWS_SHOWN) > 0:
            lines.append(f"… and {hidden} more: --format json and markdown have all")
    if report.notes:
        lines += ["", *report.notes]
    return "\n".join(lines) + "\n"


def _to_markdown(report: Report) -> str:
    lines = [f"# {report.title}", "", *_markdown_table(("", ""), list(report.shown_facts().items()))]
    for table in report.all_tables():
        lines += ["", f"## {table.title}", "", *_markdown_table(table.header, table.rows)]
    if report.failures:
        lines += ["", "## Not scored", "", *_markdown_table(("item", "reason"), list(report.reasons().items()))]
    for note in report.notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _markdown_table(header: Sequence[str], rows: Sequence[_output.Row]) -> list[str]:
    return [
        "| " + " | ".join(_escape(cell) for cell in cells) + " |" for cells in (header, ["---"] * len(header), *rows)
    ]


def _escape(value: object) -> str:
    return _output.to_cell(value, _DECIMALS).replace("|", "\\|").replace("\n", " ")


def _to_json(report: Report) -> str:
    document: dict[str, Any] = {"title": report.title, **report.facts}
    document["measures"] = [
        {
            **dict(zip(_HEADER, measure.row()[:-3], strict=False)),
            "published": measure.published,
            "difference": measure.difference,
            "published_inside_interval": measure.inside,
        }
        for measure in report.measures
    ]
    for table in report.tables:
        document[table.key] = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    return _output.to_json(document | {"failures": report.reasons(), "notes": list(report.notes)})
