"""A server without a network, for tests of whatever uses this package.

    FakeServer ──.transport()──> Client(transport=…)
               ──.async_transport()──> AsyncClient(transport=…)

It keeps the real server's contract: the models, their tensors and limits, and how they refuse. Its vectors mean
nothing, save that equal bytes have equal vectors: the image ``b"a cat"`` and the text ``"a cat"`` have cosine 1.
"""

import asyncio
import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from tritonclip._errors import ClosedError, TritonClipError
from tritonclip._operations.status import MODELS
from tritonclip.protocol._futures import answered
from tritonclip.protocol.messages import (
    Call,
    FloatArray,
    InferRequest,
    InferResponse,
    LoadModelRequest,
    ModelReadyRequest,
    ModelStatistics,
    Reply,
    ServerInfo,
    ServerInfoRequest,
    StatisticsRequest,
    Tensor,
    UnloadModelRequest,
)
from tritonclip.protocol.names import own_models, qualified
from tritonclip.protocol.statuses import status_error

CONTEXT_LENGTH = 77

__all__ = ["FakeAsyncTransport", "FakeServer", "FakeTransport", "refuse_bad"]


def refuse_bad(noun: str, item: bytes) -> str | None:
    """The rule for what is refused: images that are empty or start with ``bad``. Returns the reason, or None."""
    if noun == "image" and (not item or item.startswith(b"bad")):
        return "cannot identify the image format"
    return None


class FakeServer:
    """Answers calls in memory; ``calls`` has those received, ``failures`` the errors to raise for the next ones.

    ``width`` is D. ``model`` is the name of its model, as on a server that carries several. ``manifest`` overrides
    entries of the manifest. ``label_sets`` has labels by the set's name; their template is the label itself. With an
    ``admin_key``, statistics are for those who give it; loading models, which changes nothing here, is for nobody
    else. ``refuse`` decides which items are refused. ``before`` is called with each call before it is answered, in the
    caller's thread or task; it may block, count or raise. ``width``, ``manifest``, ``not_ready``, ``admin_key`` and
    ``before`` may be set at any time, as a server may change. For answers that are wrong, override ``answer``.
    """

    def __init__(
        self,
        *,
        width: int = 16,
        model: str | None = None,
        max_batch_size: int = 64,
        admin_key: str | None = None,
        manifest: dict[str, Any] | None = None,
        label_sets: Mapping[str, Sequence[str]] | None = None,
        refuse: Callable[[str, bytes], str | None] = refuse_bad,
        before: Callable[[Call], object] | None = None,
    ) -> None:
        self.manifest: dict[str, Any] = {
            "variant": "fake",
            "architecture": "fake",
            "pretrained": "none",
            "random_weights": False,
            "precision": "fp32",
            "image_size": 32,
            "embedding_width": width,
            "context_length": CONTEXT_LENGTH,
            "logit_scale": 100.0,
            "logit_bias": None,
            "fingerprint": "fa4e0000",
            "max_batch_size": max_batch_size,
            "label_sets": {},
        }
        self._label_sets: dict[str, list[str]] = {}
        for name, labels in (label_sets or {}).items():
            self.store_label_set(name, labels)
        self.manifest |= manifest or {}
        self.calls: list[Call] = []
        self.failures: deque[TritonClipError] = deque()
        self.not_ready: set[str] = set()
        self.width = width
        self._model = model
        self._max_batch_size = max_batch_size
        self.admin_key = admin_key
        self._refuse = refuse
        self.before = before
        self._lock = threading.Lock()

    def transport(self, admin_key: str | None = None) -> "FakeTransport":
        """A transport for ``Client``."""
        return FakeTransport(self, admin_key)

    def async_transport(self, admin_key: str | None = None) -> "FakeAsyncTransport":
        """A transport for ``AsyncClient``."""
        return FakeAsyncTransport(self, admin_key)

    def store_label_set(
        self, name: str, labels: Sequence[str], *, trained: bool = False, threshold: float | None = None
    ) -> None:
        """Have a stored label set from now on: a zero-shot one, or one that was trained, with what it proposes."""
        self._label_sets[f"classify_{name}"] = list(labels)
        self.manifest["label_sets"][name] = {
            "labels": len(labels),
            "templates": [] if trained else ["{}"],
            "names": list(labels),
            "kind": "trained" if trained else "zero-shot",
            "threshold": threshold,
        }

    def requests(self, model: str) -> list[InferRequest]:
        """The inferences received for one model."""
        wanted = qualified(model, self._model)
        return [call for call in self.calls if isinstance(call, InferRequest) and call.model == wanted]

    def answer(self, call: Call, admin_key: str | None = None) -> Reply:
        """The reply to a call; raises the error that a client would get."""
        with self._lock:
            self.calls.append(call)
            failure = self.failures.popleft() if self.failures else None
        if self.before is not None:
            self.before(call)
        if failure is not None:
            raise failure
        if isinstance(call, ServerInfoRequest):
            return ServerInfo("triton", "0.0.0-fake")
        if isinstance(call, ModelReadyRequest):
            heads = {name.replace("classify_", "head_", 1) for name in self._label_sets}
            return self._own(call.model) in {*MODELS, *self._label_sets, *heads} - self.not_ready
        if isinstance(call, StatisticsRequest):
            return self._statistics(admin_key)
        if isinstance(call, LoadModelRequest | UnloadModelRequest):
            if admin_key is None or admin_key != self.admin_key:
                raise _restricted()
            return True
        return self._infer(call)

    def _statistics(self, admin_key: str | None) -> Reply:
        if admin_key != self.admin_key:
            raise _restricted()
        called = {qualified(model, self._model): self.requests(model) for model in MODELS}
        counts = {model: [call.inputs for call in calls if call.inputs] for model, calls in called.items()}
        return tuple(
            ModelStatistics(model, "1", sum(inputs[0].shape[0] for inputs in calls), len(calls), 0.5, 2.0)
            for model, calls in counts.items()
        )

    def _infer(self, request: InferRequest) -> InferResponse:
        given = {tensor.name: tensor for tensor in request.inputs}
        model = self._own(request.model)
        if model == "manifest":
            return InferResponse(tuple(self._about_manifest(name) for name in request.outputs))
        if model == "embed_image":
            return InferResponse((Tensor.from_array("image_features", self._embed(given["image"], request.model)),))
        if model == "embed_text":
            return InferResponse((Tensor.from_array("text_features", self._embed(given["text"], request.model)),))
        if model == "text_tokenize":
            tensors = _tokens(given["text"].items())
            return InferResponse(tuple(tensors[name] for name in request.outputs))
        if model == "compare":
            images = self._embed(given["image"], request.model)
            return self._score(images, self._embed(given["text"], request.model))
        if model == "similarity":
            return self._score(given["image_features"].array(), given["text_features"].array())
        if labels := self._label_sets.get(model or ""):
            texts = np.stack([features_of(label.encode(), self.width) for label in labels])
            entry = self.manifest["label_sets"][str(model).removeprefix("classify_")]
            images = self._embed(given["image"], request.model)
            scores = self._score(images, texts, trained=entry["kind"] == "trained")
            return InferResponse(tuple(_in_classes(scores[name], request, labels) for name in request.outputs))
        raise status_error("NOT_FOUND", f"unknown model: '{request.model}' is not found", request.model)

    def _own(self, model: str) -> str | None:
        """A model as it is called here; None for one that goes by another name."""
        return own_models([model], self._model).get(model)

    def _about_manifest(self, name: str) -> Tensor:
        """One of the manifest model's outputs: tests may have put anything in the manifest's place."""
        if name == "revision" and name not in self.manifest:  # as in an older server
            raise status_error("INVALID_ARGUMENT", f"unexpected inference output '{name}'", "manifest")
        text = json.dumps(self.manifest) if name == "manifest" else str(self.manifest[name])
        return Tensor(name, "BYTES", (1,), _with_length(text.encode()))

    def _embed(self, tensor: Tensor, model: str) -> FloatArray:
        items = tensor.items()
        if len(items) > self._max_batch_size:
            reason = f"inference request batch-size must be <= {self._max_batch_size} for '{model}'"
            raise status_error("INVALID_ARGUMENT", reason, model)
        for index, item in enumerate(items):
            if refusal := self._refuse(tensor.name, item):
                words = f"in ensemble '{model}', {tensor.name} {index}: {refusal}"
                raise status_error("INVALID_ARGUMENT", words, model)
        return np.stack([features_of(item, self.width) for item in items])

    def _score(self, images: FloatArray, texts: FloatArray, *, trained: bool = False) -> InferResponse:
        cosine = images @ texts.T
        logits = cosine * np.float32(self.manifest["logit_scale"])
        bias = self.manifest["logit_bias"]
        if trained or bias is None:  # a trained label set has a softmax whatever the model has
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities = weights / weights.sum(axis=1, keepdims=True)
        else:
            logits += np.float32(bias)
            probabilities = 1 / (1 + np.exp(-logits))
        scores = {"cosine": cosine, "logits": logits, "probabilities": probabilities}
        return InferResponse(tuple(Tensor.from_array(name, values) for name, values in scores.items()))


def _restricted() -> TritonClipError:
    return status_error("UNAVAILABLE", "This protocol is restricted, expecting header 'admin-key'")


def features_of(item: bytes, width: int) -> FloatArray:
    """The vector that a fake server gives to an item: of length 1, decided by its bytes alone."""
    seed = int.from_bytes(hashlib.sha256(item).digest()[:8])
    vector = np.random.default_rng(seed).standard_normal(width)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


class _Fake:
    """What both transports have: the server, and whether they are closed."""

    def __init__(self, server: FakeServer, admin_key: str | None = None) -> None:
        self.server = server
        self.closed = False
        self._admin_key = admin_key

    def _answer(self, call: Call) -> Reply:
        if self.closed:
            raise ClosedError("the client is closed")
        return self.server.answer(call, self._admin_key)


class FakeTransport(_Fake):
    """Sends calls to a fake server."""

    def start(self, call: Call, timeout: float) -> Future[Reply]:
        """Answer before this returns, in the caller's thread."""
        return answered(self.send, call, timeout)

    def send(self, call: Call, timeout: float) -> Reply:  # noqa: ARG002 - for those who override it
        """The reply to a call."""
        return self._answer(call)

    def close(self) -> None:
        """Refuse further calls."""
        self.closed = True


class FakeAsyncTransport(_Fake):
    """Sends calls to a fake server, letting other tasks run before each answer."""

    async def send(self, call: Call, timeout: float) -> Reply:  # noqa: ARG002, ASYNC109 - the others' signature
        """Answer after giving way once."""
        await asyncio.sleep(0)
        return self._answer(call)

    async def aclose(self) -> None:
        """Refuse further calls."""
        self.closed = True


def _tokens(texts: list[bytes]) -> dict[str, Tensor]:
    """A start, a token for each word, the end (which has the highest id), and zeros up to the context length."""
    rows = np.zeros((len(texts), CONTEXT_LENGTH), dtype="<i4")
    words = np.array([[len(text.split())] for text in texts], dtype="<i4").reshape(-1, 1)
    for row, (count,) in zip(rows, np.minimum(words, CONTEXT_LENGTH - 2), strict=True):
        row[: count + 2] = [49406, *range(1, count + 1), 49407]
    counts = words + 2
    return {
        "tokens": Tensor("tokens", "INT32", rows.shape, rows.tobytes()),
        "token_count": Tensor("token_count", "INT32", counts.shape, counts.tobytes()),
    }


def _in_classes(tensor: Tensor, request: InferRequest, labels: Sequence[str]) -> Tensor:
    """The tensor or, where the request asks for classes, the best of each row as Triton writes them."""
    if tensor.name not in request.classes:
        return tensor
    values = tensor.array()
    order = np.argsort(-values, axis=1, kind="stable")[:, : request.classes[tensor.name]]
    items = [f"{values[row, i]:.6f}:{i}:{labels[i]}".encode() for row, best in enumerate(order) for i in best]
    return Tensor(tensor.name, "BYTES", order.shape, b"".join(map(_with_length, items)))


def _with_length(item: bytes) -> bytes:
    return len(item).to_bytes(4, "little") + item
