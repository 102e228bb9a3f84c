"""Rows and queries of any number: clustered unit vectors, made in blocks, the same for the same seed.

    topics ──> concepts, one for 200 rows ──two of them, and noise──> rows ──noise──> queries

A row shows one concept more and another one less, so that clusters run into one another and a row's neighbours lie in
several partitions of an index. Noise is strong in a few directions and weak in most, as embeddings of images vary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BLOCK = 20_000  # rows: what is in memory at a time
TOPICS = 100
ROWS_A_CONCEPT = 200
SPECTRUM = -0.6  # the n-th direction's share of noise is n to this power
ROW_NOISE = 1.2  # where concepts are of length 1 beyond their topic's
QUERY_NOISE = 0.5  # the cosine of a query with its row is about 0.9

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Clustered:
    """`rows` unit vectors of a width."""

    rows: int
    width: int = 640

    def blocks(self) -> Iterator[Matrix]:
        """All rows in their order, BLOCK at a time."""
        return map(self._block, range(0, self.rows, BLOCK))

    def whole(self) -> Matrix:
        """All rows at once: [rows, width]."""
        matrix = np.empty((self.rows, self.width), np.float32)
        for number, block in enumerate(self.blocks()):
            matrix[number * BLOCK : number * BLOCK + len(block)] = block
        return matrix

    def queries(self, count: int) -> Matrix:
        """[count, width]: rows with noise, so near to some and equal to none."""
        generator = np.random.default_rng(3)
        first = self._block(0)
        rows = first[generator.integers(len(first), size=count)]
        return _unit(rows + QUERY_NOISE * _unit(self._noise(generator, count)))

    def _block(self, start: int) -> Matrix:
        generator = np.random.default_rng((2, start))
        count = min(BLOCK, self.rows - start)
        first, second = generator.integers(len(self._concepts), size=(2, count))
        share = generator.uniform(0.5, 1, size=(count, 1)).astype(np.float32)
        mixed = share * self._concepts[first] + (1 - share) * self._concepts[second]
        return _unit(mixed + ROW_NOISE * self._noise(generator, count))

    def _noise(self, generator: np.random.Generator, count: int) -> Matrix:
        noise: Matrix = generator.standard_normal((count, self.width), dtype=np.float32) @ self._directions
        return noise

    @cached_property
    def _concepts(self) -> Matrix:
        generator = np.random.default_rng(1)
        topics, count = self._noise(generator, TOPICS), -(-self.rows // ROWS_A_CONCEPT)
        concepts: Matrix = topics[generator.integers(TOPICS, size=count)] + self._noise(generator, count)
        return concepts

    @cached_property
    def _directions(self) -> Matrix:
        """[width, width]: orthogonal directions, the first ones longest, and noise of length 1 on average."""
        rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((self.width, self.width)))[0]
        lengths = np.arange(1, self.width + 1) ** SPECTRUM
        directions: Matrix = (rotation * (lengths / np.linalg.norm(lengths))[:, None]).astype(np.float32)
        return directions


def _unit(vectors: Matrix) -> Matrix:
    unit: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
