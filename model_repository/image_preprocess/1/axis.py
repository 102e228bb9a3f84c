"""One axis of a resize, whoever does it."""

from typing import NamedTuple


class Axis(NamedTuple):
    """How one axis of `length` source pixels is resized: `extent` of them (the last may count in part) become `full`
    pixels, of which `shown` from `start` on are wanted. The first `skipped` source pixels may be missing."""

    length: int
    extent: float
    full: int
    start: int
    shown: int
    skipped: int = 0

    @property
    def is_kept(self) -> bool:
        """Whether nothing changes but what is shown."""
        return self.extent == self.full == self.length
