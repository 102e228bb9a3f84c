"""Results as table, JSON, CSV or NPY, on standard output or in a file."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonclip._errors import TritonClipError
from tritonclip.cli._usage import UsageError

Row = Sequence[object]

TABULAR = ("table", "json", "csv")
"""The formats of results that are one table."""

_MEANT_FOR = {
    "npy": "npy is for vectors, so for `tritonclip embed` alone",
    "markdown": "markdown is for reports, so for `tritonclip evaluate` alone",
    "csv": "csv is for one table, and this is a report",
    "html": "html is for pictures, so for `tritonclip search` alone",
}


def check_format(format_: str, allowed: Sequence[str]) -> None:
    """Refuse a format that the command's results cannot have."""
    if format_ not in allowed:
        raise UsageError(f"{_MEANT_FOR[format_]}; choose {', '.join(allowed[:-1])} or {allowed[-1]}")


def refuse_terminal(output: str | None) -> None:
    """For binary results: a terminal is no place for them."""
    if output is None and sys.stdout.isatty():
        raise UsageError("npy is binary: give --output FILE, or redirect standard output")


def write_text(text: str, output: str | None) -> None:
    """Write text to a file, or to standard output.

    What has no place in the encoding is escaped, as JSON does it: half a surrogate pair stands for a byte of a file's
    name that is not UTF-8.
    """
    if output is None:
        encoding = sys.stdout.encoding
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    else:
        Path(output).write_text(text, encoding="utf-8", errors="backslashreplace")


def write_array(array: npt.NDArray[Any], output: str | None) -> None:
    """Write an array in NumPy's NPY format to a file, or to standard output."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(buffer.getvalue())
    else:
        Path(output).write_bytes(buffer.getvalue())


def to_json(document: object) -> str:
    """JSON, with a line for each level that people read."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def to_csv(header: Sequence[str], rows: Sequence[Row]) -> str:
    """CSV with a header line, numbers in full."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def to_table(header: Sequence[str], rows: Sequence[Row], decimals: int = 4) -> str:
    """Aligned columns: numbers to the right with so many decimals, words to the left."""
    if not rows:
        return ""
    numeric = [
        all(row[column] in ("", None) or isinstance(row[column], int | float) for row in rows)
        for column in range(len(header))
    ]
    cells = [list(header), *([to_cell(value, decimals) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines) + "\n"


def to_facts(facts: Mapping[str, object]) -> str:
    """A line for each fact, its name before it."""
    width = max(map(len, facts)) + 2
    lines = [f"{name.replace('_', ' '):<{width}}{to_cell(value, 2)}" for name, value in facts.items()]
    return "\n".join(lines) + "\n"


def report_failures(errors: Mapping[int, TritonClipError], names: Sequence[str]) -> int:
    """Write a line to standard error for each item that failed; returns how many."""
    for index, error in sorted(errors.items()):
        print(f"tritonclip: {names[index]}: {reason(error)}", file=sys.stderr)
    return len(errors)


def reason(error: TritonClipError) -> str:
    """Why an item failed, without its position: messages here call it by its name."""
    return str(getattr(error, "reason", error))


def show_progress(count: int) -> bool:
    """Whether a bar is worth showing: to people, and for more than a moment's work."""
    return sys.stderr.isatty() and count > 64


def to_cell(value: object, decimals: int) -> str:
    """A value as people read it: fractions with so many decimals, a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)
