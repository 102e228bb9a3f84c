"""What is asked of a deployment, the same over every way in: a task makes its request and reads the answer.

    task ── infer() ─> InferRequest ─ Triton, gRPC or HTTP ─> InferResponse ── read() ──┐
      └──── post() ──> path, JSON ─── gateway ──────────────> JSON ──── read_json() ────┴─> float32 [B, D] or [B, N]

Pure: no channel, no clock. Reading raises ProtocolError where an answer is malformed.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson

from tritonclip._errors import ProtocolError
from tritonclip._messages import FloatArray, InferRequest, InferResponse, Tensor


class Task(Protocol):
    """One request's worth of work."""

    @property
    def items(self) -> int:
        """How many images (or, where there are none, texts) it has: what throughput counts."""

    def infer(self) -> InferRequest:
        """The inference that does it on Triton."""

    def read(self, response: InferResponse) -> FloatArray:
        """The answer, a row for each item."""

    def post(self) -> tuple[str, bytes]:
        """The gateway's path for it, and the JSON to post there."""

    def read_json(self, document: Any) -> FloatArray:
        """The same answer from the gateway's JSON."""


@dataclass(frozen=True)
class EmbedImages:
    """Vectors [B, D] of encoded images."""

    images: Sequence[bytes]

    @property
    def items(self) -> int:
        """The number of images."""
        return len(self.images)

    def infer(self) -> InferRequest:
        """`embed_image`."""
        return InferRequest("embed_image", (Tensor.from_items("image", self.images),), ("image_features",))

    def read(self, response: InferResponse) -> FloatArray:
        """The vectors."""
        return response["image_features"].array()

    def post(self) -> tuple[str, bytes]:
        """What OpenAI's SDK sends: data URLs, and vectors wanted as base64."""
        return _embeddings([data_url(image) for image in self.images])

    def read_json(self, document: Any) -> FloatArray:
        """The vectors, in the order of their indices."""
        return _vectors(document)


@dataclass(frozen=True)
class EmbedTexts:
    """Vectors [N, D] of texts."""

    texts: Sequence[str]

    @property
    def items(self) -> int:
        """The number of texts."""
        return len(self.texts)

    def infer(self) -> InferRequest:
        """`embed_text`."""
        return InferRequest("embed_text", (_text_tensor(self.texts),), ("text_features",))

    def read(self, response: InferResponse) -> FloatArray:
        """The vectors."""
        return response["text_features"].array()

    def post(self) -> tuple[str, bytes]:
        """What OpenAI's SDK sends."""
        return _embeddings(list(self.texts))

    def read_json(self, document: Any) -> FloatArray:
        """The vectors, in the order of their indices."""
        return _vectors(document)


@dataclass(frozen=True)
class Compare:
    """Cosines [B, N] of images with texts."""

    images: Sequence[bytes]
    texts: Sequence[str]

    @property
    def items(self) -> int:
        """The number of images."""
        return len(self.images)

    def infer(self) -> InferRequest:
        """`compare`."""
        inputs = (Tensor.from_items("image", self.images), _text_tensor(self.texts))
        return InferRequest("compare", inputs, ("cosine",))

    def read(self, response: InferResponse) -> FloatArray:
        """The cosines."""
        return response["cosine"].array()

    def post(self) -> tuple[str, bytes]:
        """`/v1/similarity`."""
        body = {"images": [data_url(image) for image in self.images], "texts": list(self.texts)}
        return "/v1/similarity", orjson.dumps(body)

    def read_json(self, document: Any) -> FloatArray:
        """The cosines."""
        return _array(lambda: document["cosine"])


@dataclass(frozen=True)
class ClassifyTexts(Compare):
    """Cosines [B, N] of images with labels that come along, by which the gateway classifies. On Triton: `compare`."""

    def post(self) -> tuple[str, bytes]:
        """`/v1/classify`, every label as it stands."""
        images = [data_url(image) for image in self.images]
        return "/v1/classify", orjson.dumps({"images": images, "labels": list(self.texts), "template": "{}"})

    def read_json(self, document: Any) -> FloatArray:
        """The cosines, back in the order of the labels."""
        return _array(lambda: _by_label(document, "cosine"))


@dataclass(frozen=True)
class Classify:
    """Probabilities [B, C] of the labels of a stored label set, in the order of the set."""

    images: Sequence[bytes]
    label_set: str
    labels: int

    @property
    def items(self) -> int:
        """The number of images."""
        return len(self.images)

    def infer(self) -> InferRequest:
        """`classify_<set>`, all probabilities."""
        inputs = (Tensor.from_items("image", self.images),)
        return InferRequest(f"classify_{self.label_set}", inputs, ("probabilities",))

    def read(self, response: InferResponse) -> FloatArray:
        """The probabilities."""
        return response["probabilities"].array()

    def post(self) -> tuple[str, bytes]:
        """`/v1/classify`, every label."""
        images = [data_url(image) for image in self.images]
        return "/v1/classify", orjson.dumps({"images": images, "label_set": self.label_set, "top_k": self.labels})

    def read_json(self, document: Any) -> FloatArray:
        """The probabilities, back in the order of the set."""
        return _array(lambda: _by_label(document, "probability"))


def data_url(image: bytes) -> str:
    """An encoded image as a data URL. The gateway looks at the bytes, not at the type that is said here."""
    return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"


def _text_tensor(texts: Sequence[str]) -> Tensor:
    return Tensor.from_items("text", [text.encode() for text in texts])


def _embeddings(items: list[str]) -> tuple[str, bytes]:
    return "/v1/embeddings", orjson.dumps({"input": items, "encoding_format": "base64"})


def _vectors(document: Any) -> FloatArray:
    def rows() -> list[FloatArray]:
        entries = sorted(document["data"], key=lambda entry: int(entry["index"]))
        return [np.frombuffer(base64.b64decode(entry["embedding"]), dtype="<f4") for entry in entries]

    return _array(rows)


def _by_label(document: Any, field: str) -> list[list[float]]:
    return [
        [label[field] for label in sorted(image["labels"], key=lambda label: int(label["index"]))]
        for image in sorted(document["data"], key=lambda image: int(image["index"]))
    ]


def _array(rows: Any) -> FloatArray:
    """A matrix of rows that are read from JSON which may be anything."""
    try:
        return np.array(rows(), dtype=np.float32)
    except (KeyError, TypeError, ValueError, IndexError) as exc:
        raise ProtocolError(f"not an answer of the gateway: {exc!r}") from exc
