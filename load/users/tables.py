"""Reading a TOML table strictly: every value is checked, every key known, every fault named by table and key."""

from collections.abc import Collection, Mapping
from typing import Any


class TableError(ValueError):
    """A value that cannot be meant; `table` and `key` say where."""

    def __init__(self, table: str, key: str, reason: str) -> None:
        super().__init__(f"{table!r}, {key}: {reason}")
        self.table = table
        self.key = key


class Table:
    """A table of a file, by name; `error` is the type that its faults are raised as.

    Read every key that may be there, then call `done`, which refuses what is left.
    """

    def __init__(self, name: str, values: Any, error: type[TableError]) -> None:
        self.name = name
        self._error = error
        if not isinstance(values, dict):
            raise error(name, "table", f"must be a table, not {values!r}")
        self._values: dict[str, Any] = values
        self._known: set[str] = set()

    def fault(self, key: str, reason: str) -> TableError:
        """The error for a key, to be raised."""
        return self._error(self.name, key, reason)

    def has(self, key: str) -> bool:
        """Whether the key is given, which may be there from now on."""
        self._known.add(key)
        return key in self._values

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it stands; a fault where it is missing and there is no default."""
        self._known.add(key)
        value = self._values.get(key, default)
        if value is None:
            raise self.fault(key, "is missing")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string that is not empty."""
        value = self.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.fault(key, f"must be a text, not {value!r}")
        return value

    def choice(self, key: str, choices: Collection[str], default: str | None = None) -> str:
        """One of several strings."""
        value = self.get(key, default)
        if value not in choices:
            raise self.fault(key, f"must be one of {', '.join(choices)}, not {value!r}")
        return str(value)

    def number(self, key: str, default: float | None = None, *, least: float = 0.0, most: float = 1e9) -> float:
        """A number within limits."""
        return self._within(key, self.get(key, default), least, most)

    def whole(self, key: str, default: int | None = None, *, least: int = 0, most: int = 10**9) -> int:
        """A whole number within limits."""
        return self._whole(key, self.get(key, default), least, most)

    def wholes(self, key: str, default: list[int], *, least: int, most: int) -> tuple[int, ...]:
        """A list of whole numbers within limits, at least one."""
        values = self.get(key, default)
        if not isinstance(values, list) or not values:
            raise self.fault(key, f"must be a list of numbers, not {values!r}")
        return tuple(self._whole(key, value, least, most) for value in values)

    def span(self, key: str, default: list[float], *, most: float) -> tuple[float, float]:
        """A pair of numbers, the lower one first."""
        values = self.get(key, default)
        if not isinstance(values, list) or len(values) != 2:
            raise self.fault(key, f"must be a pair of numbers, not {values!r}")
        low, high = (self._within(key, value, 0.0, most) for value in values)
        if low > high:
            raise self.fault(key, f"goes from {low:g} down to {high:g}")
        return low, high

    def weights(self, key: str, names: Collection[str]) -> Mapping[str, float]:
        """Names with positive weights, at least one."""
        values = self.get(key)
        if not isinstance(values, dict) or not values:
            raise self.fault(key, f"must be a table of weights, not {values!r}")
        for name, weight in values.items():
            if name not in names:
                raise self.fault(key, f"there is no {name!r}, only {', '.join(names)}")
            if self._within(key, weight, 0.0, 1e6) == 0:
                raise self.fault(key, f"the weight of {name} must be more than 0")
        return {name: float(weight) for name, weight in values.items()}

    def tables(self, key: str) -> list["Table"]:
        """A list of tables; empty where the key is not given."""
        values = self.get(key, [])
        if not isinstance(values, list):
            raise self.fault(key, f"must be a list of tables, not {values!r}")
        return [Table(self.name, value, self._error) for value in values]

    def done(self) -> None:
        """Refuse keys that were not asked for."""
        for key in self._values:
            if key not in self._known:
                raise self.fault(key, f"unknown key; there are: {', '.join(sorted(self._known))}")

    def _within(self, key: str, value: Any, least: float, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.fault(key, f"must be a number from {least:g} to {most:g}, not {value!r}")
        return float(value)

    def _whole(self, key: str, value: Any, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.fault(key, f"must be a whole number from {least} to {most}, not {value!r}")
        return value
