"""Features of texts seen before: a bounded cache in front of the engine, the least recently used out first.

It is bounded in texts and in bytes, for texts may be long: an entry counts with all that Python keeps of it.

The fingerprint is part of the key, so that a model that is exchanged behind the gateway never meets the vectors of the
one before it.
"""

import sys
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.metrics import Metrics

# What an entry takes beside its text and the numbers of its features: the array's, the entry's and the key's own
# objects, and its place in the dictionary. tracemalloc found 322 to 349 bytes, with Python 3.11.
ENTRY_BYTES = 400


@dataclass(frozen=True, eq=False, slots=True)
class CachedText:
    """What is kept of a text: its features, and how many tokens it has uncut."""

    features: FloatArray
    tokens: int


class TextCache:
    """At most `texts` texts, in at most `size` bytes; metrics have it under the name of its model."""

    def __init__(self, texts: int, size: int, metrics: Metrics, model: str = "") -> None:
        self._most_texts = texts
        self._most_bytes = size
        self.bytes = 0  # that the entries take
        self._entries: OrderedDict[tuple[str | None, str], CachedText] = OrderedDict()
        self._hits, self._misses = (metrics.text_cache.labels(result, model) for result in ("hit", "miss"))
        self._count = metrics.cached_texts.labels(model)

    def find(self, fingerprint: str | None, texts: Collection[str]) -> dict[str, CachedText]:
        """What is known of different texts under a model, of those that are known."""
        found = {text: entry for text in texts if (entry := self._entries.get((fingerprint, text))) is not None}
        for text in found:
            self._entries.move_to_end((fingerprint, text))
        self._hits.inc(len(found))
        self._misses.inc(len(texts) - len(found))
        return found

    def put(self, fingerprint: str | None, text: str, entry: CachedText) -> None:
        """Keep a text, at the cost of those that have not been used for longest."""
        key = (fingerprint, text)
        if (old := self._entries.pop(key, None)) is not None:
            self.bytes -= _bytes_of(text, old)
        self._entries[key] = entry
        self.bytes += _bytes_of(text, entry)
        while len(self._entries) > self._most_texts or self.bytes > self._most_bytes:
            (_, oldest), forgotten = self._entries.popitem(last=False)
            self.bytes -= _bytes_of(oldest, forgotten)
        self._count.set(len(self._entries))


def _bytes_of(text: str, entry: CachedText) -> int:
    """What an entry takes in memory."""
    return sys.getsizeof(text) + entry.features.nbytes + ENTRY_BYTES
