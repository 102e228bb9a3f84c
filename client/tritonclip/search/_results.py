"""What searches return."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Hit:
    """A row and how near it is: ``score`` is the cosine with the query, from -1 to 1.

    ``id`` is made from the ``uri``; ``metadata`` has width, height, bytes, digest, mtime, caption and the user's own
    columns, None where not known; ``thumbnail`` says whether there is one.
    """

    id: str
    uri: str
    score: float
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """As JSON has it: times are ISO 8601."""
        shown = {
            name: value.isoformat() if isinstance(value, datetime.date) else value
            for name, value in self.metadata.items()
        }
        return {"id": self.id, "uri": self.uri, "score": self.score, "metadata": shown}


@dataclass(frozen=True)
class SearchResults:
    """Hits, the best first. ``exact`` says whether every row was looked at; ``rows`` is how many the index has."""

    hits: tuple[Hit, ...]
    exact: bool
    rows: int

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __getitem__(self, index: int) -> Hit:
        return self.hits[index]


@dataclass(frozen=True)
class IndexInfo:
    """An index at one moment: ``bytes`` on disk, ``errors`` images that are not in it, ``ann`` the kind of its ANN
    index (None without one), ``unindexed_rows`` those that came after that was built."""

    uri: str
    rows: int
    width: int
    precision: str
    variant: str | None
    fingerprint: str
    thumbnails: bool
    columns: tuple[str, ...]
    bytes: int
    errors: int
    ann: str | None
    unindexed_rows: int
    version: int
