"""Whether the model answers rightly, not only at all: a known image and sentence against their expected vectors.

The exporter puts a probe into the manifest: a small image, a sentence, and what eager open_clip makes of them. A server
with the wrong weights, swapped channels or broken kernels embeds them into something else, and is not ready. The
manifest of an older export has no probe; then only what every model must do is checked.
"""

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonclip import Manifest, TritonClipError
from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.inference.served_model import ServedModel
from tritonclip_server.gateway.metrics import Metrics

# fp16 and bf16 encoders reach 0.999 (the exporter sees to that); a wrong answer is far below.
MIN_COSINE = 0.99
SECONDS = 10.0  # for one check
KEPT_SECONDS = 5.0  # a verdict serves all who ask within it: the check costs an inference, and needs no key

# For manifests without a probe: one grey pixel.
_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True, eq=False)
class Probe:
    """A question with a known answer; the vectors are None where the answer is not known."""

    image: bytes
    text: str
    image_features: FloatArray | None = None
    text_features: FloatArray | None = None


def probe_of(manifest: Manifest) -> Probe:
    """The manifest's probe, or one whose answer is not known."""
    stored: dict[str, Any] | None = manifest.raw.get("probe")
    if stored is None:
        return Probe(_PIXEL, "a photo")
    image, image_features, text_features = (
        base64.b64decode(stored[name]) for name in ("image", "image_features", "text_features")
    )
    return Probe(image, stored["text"], np.frombuffer(image_features, "<f2"), np.frombuffer(text_features, "<f2"))


class Readiness:
    """Asks a model the probe's question, at most every few seconds, however often it is itself asked."""

    def __init__(
        self,
        model: ServedModel,
        metrics: Metrics,
        *,
        kept: float = KEPT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._metrics = metrics
        self._kept = kept
        self._clock = clock
        self._checked = float("-inf")
        self._check: asyncio.Task[str | None] | None = None  # the last one: all who ask meanwhile wait for the same

    async def problem(self) -> str | None:
        """What keeps the model from being ready; None where nothing does. Whoever waits no longer stops no check."""
        if self._check is None or (self._check.done() and self._clock() - self._checked >= self._kept):
            self._check = asyncio.create_task(self._judge())
        return await asyncio.shield(self._check)

    async def _judge(self) -> str | None:
        try:
            problem = await self._ask()
        finally:
            self._checked = self._clock()
        self._metrics.model_ready.labels(self._model.name).set(problem is None)
        return problem

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(SECONDS):
                manifest = await self._model.manifest(refresh=True)
                probe = probe_of(manifest)
                engine = self._model.engine.with_timeout(SECONDS)
                images = await engine.embed_images([probe.image])
                texts = await engine.embed_texts([probe.text])
        except TimeoutError:
            return f"no answer within {SECONDS:g} s"
        except TritonClipError as error:
            return f"{type(error).__name__}: the model cannot be asked"
        return _fault("image", images.features[0], probe.image_features, manifest) or _fault(
            "text", texts.features[0], probe.text_features, manifest
        )


def _fault(noun: str, features: FloatArray, expected: FloatArray | None, manifest: Manifest) -> str | None:
    """What is wrong with a vector."""
    length = float(np.linalg.norm(features))
    if not 0.99 < length < 1.01 or len(features) != (manifest.embedding_width or len(features)):
        return f"the {noun} vector has length {length:.3f} and {len(features)} dimensions"
    if expected is None:
        return None
    cosine = float(features @ expected.astype(np.float32) / np.linalg.norm(expected.astype(np.float32)))
    return None if cosine >= MIN_COSINE else f"the {noun} vector is wrong: cosine {cosine:.3f} to the expected one"
