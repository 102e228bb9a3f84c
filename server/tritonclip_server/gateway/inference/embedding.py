"""Items to vectors: images through the loader, texts through the cache, both to the engine, all in their order.

    images ────────────> parts, each with places ─> ImageLoader.load ─> Engine.embed_images ─┐
    texts ─> TextCache ─> parts of the rest, each with places ───> Engine.embed_texts ──┴─checked─> Vectors

What an engine answers is not believed: a vector that is not finite, or not of length 1, is an error of its item, and
goes into no cache and no answer.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from tritonclip import Embeddings, Manifest, ProtocolError, TritonClipError
from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.admission.places import Kind, Turn
from tritonclip_server.gateway.content.image_loader import ImageLoader
from tritonclip_server.gateway.content.items import ImageItem, Item, TextItem, errors_of
from tritonclip_server.gateway.content.truncation import too_long
from tritonclip_server.gateway.errors import ApiError, item_error
from tritonclip_server.gateway.gather import gather_or_cancel
from tritonclip_server.gateway.inference.engine import Inference
from tritonclip_server.gateway.inference.text_cache import CachedText, TextCache

MAX_LENGTH_ERROR = 1e-3  # of a vector whose length is 1; fp16 encoders end in an fp32 normalisation

log = logging.getLogger("gateway")

Key = TypeVar("Key")
Value = TypeVar("Value")

Errors = dict[int, ApiError]
Rows = dict[int, FloatArray]
"""Features by position."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """A row for each item [N, D], NaN where it failed; `errors` says why, by position."""

    features: FloatArray
    errors: Errors = field(default_factory=dict)
    tokens: int = 0  # that the model read, of all texts
    images: int = 0
    truncated: tuple[int, ...] = ()  # positions of texts of which the model did not read the end

    def require(self, first: int) -> None:
        """Raise where one from a position on failed: as a question or a label, all scores would mean something else."""
        for position, error in self.errors.items():
            if position >= first:
                raise error


class Embedder:
    """Embeds what requests hold."""

    def __init__(self, loader: ImageLoader, cache: TextCache) -> None:
        self._loader = loader
        self._cache = cache

    async def embed(self, turn: Turn, manifest: Manifest, items: Sequence[Item], *, may_cut: bool = True) -> Vectors:
        """Embed texts and images in a request's turns; texts longer than the model reads are errors unless cut.

        An item that fails is an error of its own; what concerns all of them is raised.
        """
        images = {position: item for position, item in enumerate(items) if isinstance(item, ImageItem)}
        texts = {position: item for position, item in enumerate(items) if isinstance(item, TextItem)}
        errors = errors_of(items)
        if images and texts:
            found = await gather_or_cancel(self._images(turn, manifest, images), self._texts(turn, manifest, texts))
        else:  # one of them has nothing to do
            found = [await self._images(turn, manifest, images), await self._texts(turn, manifest, texts)]
        (image_rows, image_errors), (known, text_errors) = found
        errors |= image_errors | text_errors
        long = {p: entry.tokens for p, entry in known.items() if entry.tokens > (manifest.context_length or np.inf)}
        if not may_cut:
            errors |= {p: too_long(texts[p].param, count, manifest) for p, count in long.items()}
        rows = image_rows | {position: entry.features for position, entry in known.items() if position not in errors}
        width = len(next(iter(rows.values()))) if rows else manifest.embedding_width or 0
        features = np.full((len(items), width), np.nan, dtype=np.float32)
        for position, row in rows.items():
            features[position] = row
        read = [min(entry.tokens, manifest.context_length or entry.tokens) for p, entry in known.items() if p in rows]
        truncated = tuple(sorted(long.keys() & rows.keys()))
        return Vectors(features, dict(sorted(errors.items())), sum(read), len(images), truncated)

    async def load(self, items: Sequence[Item]) -> tuple[dict[int, bytes], Errors]:
        """The bytes of images, and the errors of those that cannot be had, by position."""
        errors = errors_of(items)
        images = {position: item for position, item in enumerate(items) if isinstance(item, ImageItem)}
        loaded = dict(zip(images, await self._loader.load(list(images.values())), strict=True))
        errors |= {position: error for position, error in loaded.items() if isinstance(error, ApiError)}
        return {position: data for position, data in loaded.items() if isinstance(data, bytes)}, errors

    async def _images(self, turn: Turn, manifest: Manifest, items: dict[int, ImageItem]) -> tuple[Rows, Errors]:
        async def embed(engine: Inference, part: Sequence[tuple[int, ImageItem]]) -> tuple[Rows, Errors]:
            positions = [position for position, _ in part]
            loaded, failed = await self.load([item for _, item in part])
            errors = {positions[index]: error for index, error in failed.items()}
            good = [positions[index] for index in loaded]
            if not good:
                return {}, errors
            embeddings = await engine.embed_images(list(loaded.values()), on_error="return")
            refused = checked(embeddings, len(good), manifest, [items[position].param for position in good])
            errors |= {good[index]: error for index, error in refused.items()}
            return {p: row for p, row in zip(good, embeddings.features, strict=True) if p not in errors}, errors

        return _joined(await turn.in_parts(Kind.IMAGE, list(items.items()), embed))

    async def _texts(
        self, turn: Turn, manifest: Manifest, items: dict[int, TextItem]
    ) -> tuple[dict[int, CachedText], Errors]:
        params = {item.text: item.param for item in reversed(items.values())}  # of the first of equal texts
        found = self._cache.find(manifest.fingerprint, params)
        missing = [text for text in dict.fromkeys(item.text for item in items.values()) if text not in found]

        async def embed(engine: Inference, part: Sequence[str]) -> tuple[dict[str, CachedText], dict[str, ApiError]]:
            embeddings = await engine.embed_texts(part, on_error="return", on_truncation="allow")  # which are: `embed`
            errors = checked(embeddings, len(part), manifest, [params[text] for text in part])
            good = [index for index in range(len(part)) if index not in errors]
            counts = await engine.count_tokens([part[index] for index in good])
            if len(counts) != len(good) or not all(count > 0 for count in counts):
                raise ProtocolError(f"{len(counts)} token counts for {len(good)} texts")
            new = {}
            for index, count in zip(good, counts, strict=True):
                new[part[index]] = entry = CachedText(embeddings.features[index].copy(), count)
                self._cache.put(manifest.fingerprint, part[index], entry)
            return new, {part[index]: error for index, error in errors.items()}

        new, refused = _joined(await turn.in_parts(Kind.TEXT, missing, embed))
        entries = found | new
        known = {p: entries[item.text] for p, item in items.items() if item.text in entries}
        failed = {p: refused[item.text] for p, item in items.items() if p not in known}
        return known, {p: ApiError(e.code, e.reason, param=items[p].param) for p, e in failed.items()}


def _joined(
    parts: Sequence[tuple[dict[Key, Value], dict[Key, ApiError]]],
) -> tuple[dict[Key, Value], dict[Key, ApiError]]:
    """What parts of a request gave, and their errors, as those of the whole."""
    values: dict[Key, Value] = {}
    errors: dict[Key, ApiError] = {}
    for more, failed in parts:
        values |= more
        errors |= failed
    return values, errors


def checked(embeddings: Embeddings, count: int, manifest: Manifest, params: Sequence[str]) -> Errors:
    """The errors of an engine's answer by row: those it tells of, and those of rows that are no vectors.

    Raises ProtocolError where the answer as a whole is not what was asked for, and what concerns the whole request.
    """
    features, width = embeddings.features, manifest.embedding_width
    if features.ndim != 2 or len(features) != count or (width is not None and features.shape[1] != width):
        raise ProtocolError(f"features of shape {list(features.shape)} for {count} items of width {width}")
    if not all(0 <= index < count for index in embeddings.errors):
        raise ProtocolError(f"errors of items that were not sent: {sorted(embeddings.errors)} of {count}")
    errors = {index: error_of(error, params[index]) for index, error in embeddings.errors.items()}
    length = np.linalg.norm(features.astype(np.float64), axis=1)
    unusable = set(np.flatnonzero(~(np.abs(length - 1) <= MAX_LENGTH_ERROR)).tolist()) - errors.keys()
    if unusable:
        log.warning("engine_failed: %d of %d vectors are not finite or not of length 1", len(unusable), count)
    return errors | {index: _unusable(params[index]) for index in sorted(unusable)}


def error_of(error: TritonClipError, param: str) -> ApiError:
    """An item's error: the engine could not use it or, from an engine that checks its answers, that went wrong."""
    return _unusable(param) if isinstance(error, ProtocolError) else item_error(error, param)


def _unusable(param: str) -> ApiError:
    return ApiError("engine_failed", "the model server answered with no usable vector", param=param)
