"""What is asked of a deployment, the same over every protocol: an operation makes its request and reads the answer.

    operation ── infer() ─> InferRequest ─ Triton, gRPC or HTTP ─> InferResponse ─ read() ──┐
          └───── post() ──> path, JSON ─── gateway ─────────────> JSON ─── read_json() ─────┴─> float32 [B, D] or [B, N]

Pure: no channel, no clock. Reading raises ProtocolError where an answer is malformed.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import orjson

from tritonclip import ProtocolError
from tritonclip.protocol import FloatArray, InferRequest, InferResponse, Tensor, qualified


class Operation:
    """One request's worth of images, texts or both. `name` is what it is counted as, `output` the tensor it wants."""

    name: ClassVar[str]
    output: ClassVar[str]
    images: Sequence[bytes] = ()
    texts: Sequence[str] = ()

    @property
    def items(self) -> int:
        """How many images (or, where there are none, texts) it has: what throughput counts."""
        return len(self.images) or len(self.texts)

    @property
    def model(self) -> str:
        """The ensemble that does it."""
        return self.name

    def infer(self, model: str | None = None) -> InferRequest:
        """The inference that does it on Triton, by the model of this name where it carries several."""
        inputs = {"image": self.images, "text": [text.encode() for text in self.texts]}
        tensors = tuple(Tensor.from_items(name, items) for name, items in inputs.items() if items)
        return InferRequest(qualified(self.model, model), tensors, (self.output,))

    def read(self, response: InferResponse) -> FloatArray:
        """The answer, a row for each item."""
        return response[self.output].array()

    def post(self) -> tuple[str, bytes]:
        """The gateway's path for it, and the JSON to post there."""
        path, document = self._document()
        return path, orjson.dumps(document)

    def read_json(self, document: Any) -> FloatArray:
        """The same answer from the gateway's JSON, which may be anything."""
        try:
            return np.array(self._rows(document), dtype=np.float32)
        except (KeyError, TypeError, ValueError, IndexError) as exc:
            raise ProtocolError(f"not an answer of the gateway: {exc!r}") from exc

    def _document(self) -> tuple[str, dict[str, Any]]:
        """As OpenAI's SDK asks for embeddings: images as data URLs, vectors wanted as base64."""
        return "/v1/embeddings", {"input": [*_urls(self.images), *self.texts], "encoding_format": "base64"}

    def _rows(self, document: Any) -> list[Any]:
        """The vectors in the order of their indices."""
        return [np.frombuffer(base64.b64decode(entry["embedding"]), dtype="<f4") for entry in _sorted(document["data"])]


@dataclass(frozen=True)
class EmbedImages(Operation):
    """Vectors [B, D] of encoded images."""

    name = "embed_image"
    output = "image_features"
    images: Sequence[bytes] = field()


@dataclass(frozen=True)
class EmbedTexts(Operation):
    """Vectors [N, D] of texts."""

    name = "embed_text"
    output = "text_features"
    texts: Sequence[str] = field()


@dataclass(frozen=True)
class Compare(Operation):
    """Cosines [B, N] of images with texts."""

    name = "compare"
    output = "cosine"
    images: Sequence[bytes] = field()
    texts: Sequence[str] = field()

    def _document(self) -> tuple[str, dict[str, Any]]:
        return "/v1/similarity", {"images": _urls(self.images), "texts": list(self.texts)}

    def _rows(self, document: Any) -> list[Any]:
        return list(document["cosine"])


@dataclass(frozen=True)
class ClassifyTexts(Compare):
    """Cosines [B, N] of images with labels that come along, by which the gateway classifies. On Triton: `compare`."""

    name = "classify"

    @property
    def model(self) -> str:
        """Triton compares."""
        return "compare"

    def _document(self) -> tuple[str, dict[str, Any]]:
        return "/v1/classify", {"images": _urls(self.images), "labels": list(self.texts), "template": "{}"}

    def _rows(self, document: Any) -> list[Any]:
        return _by_label(document, "cosine")


@dataclass(frozen=True)
class Classify(Operation):
    """The softmax [B, C] of the logits of all labels of a stored label set, in the order of the set.

    It tells images apart whatever the model's own probabilities are: sigmoids may be near 0 for every label, and then
    an answer about another image would pass for the right one.
    """

    name = "classify"
    output = "logits"
    images: Sequence[bytes] = field()
    label_set: str
    labels: int

    @property
    def model(self) -> str:
        """The label set's own ensemble."""
        return f"classify_{self.label_set}"

    def read(self, response: InferResponse) -> FloatArray:
        """The answer, a row for each image."""
        return _softmax(super().read(response))

    def _document(self) -> tuple[str, dict[str, Any]]:
        document = {"images": _urls(self.images), "label_set": self.label_set, "top_k": self.labels}
        return "/v1/classify", document

    def _rows(self, document: Any) -> list[Any]:
        return [_softmax(np.array(row, dtype=np.float32)) for row in _by_label(document, "logit")]


def _urls(images: Sequence[bytes]) -> list[str]:
    """Data URLs. The gateway looks at the bytes, not at the type that is said here."""
    return [f"data:image/jpeg;base64,{base64.b64encode(image).decode()}" for image in images]


def _by_label(document: Any, field: str) -> list[list[float]]:
    return [[label[field] for label in _sorted(image["labels"])] for image in _sorted(document["data"])]


def _softmax(logits: FloatArray) -> FloatArray:
    """Over the last axis; what is not finite stays so."""
    with np.errstate(invalid="ignore"):
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
        found: FloatArray = weights / weights.sum(axis=-1, keepdims=True)
        return found


def _sorted(entries: Any) -> list[Any]:
    return sorted(entries, key=lambda entry: int(entry["index"]))
