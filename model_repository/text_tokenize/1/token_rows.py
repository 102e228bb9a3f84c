"""How the ids of a text are laid out in a row of fixed width: cut where they are too many, padded where too few."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RowLayout:
    """What a tokenizer says of its rows. Ids are framed by `prefix` and `suffix` special tokens, which are never cut.

    `stripped_id` is written as 0: open_clip's `strip_sep_token`.
    """

    prefix: int = 1
    suffix: int = 1
    pad_id: int = 0
    pads_left: bool = False
    cuts_left: bool = False
    stripped_id: int | None = None

    def write(self, row: NDArray[np.int32], ids: list[int]) -> None:
        """Fill a row, int32 [context length], with the framed ids of a text."""
        kept = self._cut(ids, len(row))
        row[:] = self.pad_id
        row[len(row) - len(kept) if self.pads_left else 0 :][: len(kept)] = kept
        if self.stripped_id is not None:
            row[row == self.stripped_id] = 0

    def _cut(self, ids: list[int], width: int) -> list[int]:
        if len(ids) <= width:
            return ids
        end = len(ids) - self.suffix
        room = width - self.prefix - self.suffix
        body = ids[end - room : end] if self.cuts_left else ids[self.prefix : self.prefix + room]
        return [*ids[: self.prefix], *body, *ids[end:]]
