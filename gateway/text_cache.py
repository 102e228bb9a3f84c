"""Features of texts seen before: a bounded cache in front of the engine, the least recently used out first.

The fingerprint is part of the key, so that a model that is exchanged behind the gateway never meets the vectors of the
one before it.
"""

from collections import OrderedDict
from dataclasses import dataclass

from gateway.answers import FloatArray
from gateway.metrics import Metrics


@dataclass(frozen=True, eq=False)
class CachedText:
    """What is kept of a text: its features, and how many tokens it has."""

    features: FloatArray
    tokens: int


class TextCache:
    """At most `size` texts."""

    def __init__(self, size: int, metrics: Metrics) -> None:
        self._size = size
        self._entries: OrderedDict[tuple[str | None, str], CachedText] = OrderedDict()
        self._metrics = metrics

    def get(self, fingerprint: str | None, text: str) -> CachedText | None:
        """What is known of a text under a model."""
        entry = self._entries.get((fingerprint, text))
        self._metrics.text_cache.labels("miss" if entry is None else "hit").inc()
        if entry is not None:
            self._entries.move_to_end((fingerprint, text))
        return entry

    def put(self, fingerprint: str | None, text: str, entry: CachedText) -> None:
        """Keep a text, at the cost of the one that has not been used for longest."""
        self._entries[fingerprint, text] = entry
        self._entries.move_to_end((fingerprint, text))
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
        self._metrics.cached_texts.set(len(self._entries))
