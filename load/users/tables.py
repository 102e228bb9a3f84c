"""Tables of a TOML file, read strictly: every value is checked, every key known, every fault named by table and key."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class TableError(ValueError):
    """A value that cannot be meant; `table` and `key` say where."""

    def __init__(self, table: str, key: str, reason: str) -> None:
        super().__init__(f"{table!r}, {key}: {reason}")
        self.table = table
        self.key = key


class Table(BaseModel):
    """What a table may hold."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


Kind = TypeVar("Kind", bound=Table)


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of a file, by name, as they stand."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TableError(path.name, "file", str(error)) from error


def parse_table(kind: type[Kind], name: str, values: Any) -> Kind:
    """A table of a kind; the first fault of its values is raised."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        where = fault["loc"] or ("table",)
        in_a_list = len(where) > 2 and isinstance(where[1], int)  # such as images, 0, width
        raise TableError(name, str(where[2] if in_a_list else where[0]), fault["msg"]) from error
