"""A client without a server, for the load tests' own tests."""

import hashlib
from collections.abc import Sequence

import numpy as np

from load.core.operations import Classify, Compare, EmbedImages, EmbedTexts, Operation
from load.core.protocols import Prepared, RequestProblem
from tritonclip.protocol import FloatArray

WIDTH = 16


class FakeClient:
    """Vectors that follow from an item alone, texts stripped as the model does; `problem` is raised where it is set."""

    name = "grpc"

    def __init__(self) -> None:
        self.asked: list[Operation] = []
        self.problem: RequestProblem | None = None

    def prepare(self, operation: Operation) -> Prepared:
        return Prepared(operation, operation.infer(), None)

    def send(self, request: Prepared, deadline: float) -> FloatArray:
        task = request.operation
        self.asked.append(task)
        if self.problem is not None:
            raise self.problem
        if isinstance(task, EmbedImages):
            return vectors(task.images)
        if isinstance(task, EmbedTexts):
            return text_vectors(task.texts)
        if isinstance(task, Compare):
            cosines: FloatArray = vectors(task.images) @ text_vectors(task.texts).T
            return cosines
        assert isinstance(task, Classify)
        positive = np.abs(vectors(task.images))
        probabilities: FloatArray = positive / positive.sum(axis=1, keepdims=True)
        return probabilities


def vectors(items: Sequence[bytes]) -> FloatArray:
    rows = []
    for item in items:
        seed = int.from_bytes(hashlib.sha256(item).digest()[:8], "little")
        row = np.random.default_rng(seed).standard_normal(WIDTH)
        rows.append(row / np.linalg.norm(row))
    return np.array(rows, dtype=np.float32)


def text_vectors(texts: Sequence[str]) -> FloatArray:
    return vectors([text.strip().encode() for text in texts])
