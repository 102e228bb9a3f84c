"""Tables in files: CSV with a header line, every complaint with its file and line."""

import csv
from dataclasses import dataclass
from pathlib import Path

from tritonclip._errors import ConfigError

_LISTED = 10  # names in one message


@dataclass(frozen=True)
class Line:
    """One row: where it stands (``file, line 7``), and its cells by column."""

    where: str
    cells: dict[str, str]


def read_csv(path: Path) -> tuple[tuple[str, ...], list[Line]]:
    """The header and the rows of a UTF-8 CSV file; rows are as long as the header, and blank lines are no rows.

    Raises ConfigError with file and line where it cannot be read so.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            header = tuple(next(reader, ()))
            lines = []
            for cells in reader:
                where = f"{path}, line {reader.line_num}"
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise ConfigError(
                        f"{where}: {len(cells)} columns, the header has {len(header)} (commas need quotes)"
                    )
                lines.append(Line(where, dict(zip(header, cells, strict=True))))
    except csv.Error as exc:
        raise ConfigError(f"{path}, line {reader.line_num}: {exc}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8 text") from exc
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    return header, lines


def require_columns(path: Path, header: tuple[str, ...], *wanted: tuple[str, ...]) -> None:
    """Check that one of the ``wanted`` sets of columns is there; raises ConfigError naming those that are."""
    if not any(set(columns) <= set(header) for columns in wanted):
        expected = " or ".join(",".join(columns) for columns in wanted)
        raise ConfigError(f"{path}, line 1: expected a header with {expected}, found {','.join(header) or 'nothing'}")


def listed(names: list[str]) -> str:
    """Names for a message, the first few where there are many."""
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + rest
