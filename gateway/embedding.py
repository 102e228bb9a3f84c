"""Items to vectors: images through the intake, texts through the cache, both to the engine, all in their order.

images ─> Intake.load ─> Engine.embed_images ─┐
texts ──> TextCache ───> Engine.embed_texts ──┴─> Vectors
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gateway.answers import FloatArray
from gateway.engine import Engine
from gateway.errors import ApiError, item_error
from gateway.intake import ImageItem, Intake, Item, TextItem
from gateway.text_cache import CachedText, TextCache
from gateway.together import together
from tritonclip import Manifest, TritonClipError


@dataclass(frozen=True, eq=False)
class Vectors:
    """A row for each item [N, D], NaN where it failed; `errors` says why, by position."""

    features: FloatArray
    errors: dict[int, ApiError] = field(default_factory=dict)
    tokens: int = 0  # of all texts
    images: int = 0


Rows = dict[int, FloatArray]
"""Features by position."""


class Embedder:
    """Embeds what requests hold."""

    def __init__(self, intake: Intake, cache: TextCache) -> None:
        self._intake = intake
        self._cache = cache

    async def embed(self, engine: Engine, manifest: Manifest, items: Sequence[Item]) -> Vectors:
        """Embed texts and images. An item that fails is an error of its own; what concerns all of them is raised."""
        images = {position: item for position, item in enumerate(items) if isinstance(item, ImageItem)}
        texts = {position: item for position, item in enumerate(items) if isinstance(item, TextItem)}
        (image_rows, image_errors), (known, text_errors) = await together(
            self._images(engine, images), self._texts(engine, manifest.fingerprint, texts)
        )
        rows = image_rows | {position: entry.features for position, entry in known.items()}
        width = len(next(iter(rows.values()))) if rows else manifest.embedding_width or 0
        features = np.full((len(items), width), np.nan, dtype=np.float32)
        for position, row in rows.items():
            features[position] = row
        tokens = sum(entry.tokens for entry in known.values())
        return Vectors(features, dict(sorted((image_errors | text_errors).items())), tokens, len(images))

    async def load(self, items: Sequence[ImageItem]) -> tuple[dict[int, bytes], dict[int, ApiError]]:
        """The bytes of images, and the errors of those that cannot be had, by position."""
        loaded = dict(enumerate(await self._intake.load(items)))
        good = {position: data for position, data in loaded.items() if isinstance(data, bytes)}
        return good, {position: error for position, error in loaded.items() if isinstance(error, ApiError)}

    async def _images(self, engine: Engine, items: dict[int, ImageItem]) -> tuple[Rows, dict[int, ApiError]]:
        if not items:
            return {}, {}
        positions = list(items)
        loaded, failed = await self.load(list(items.values()))
        errors = {positions[index]: error for index, error in failed.items()}
        good = [positions[index] for index in loaded]
        embeddings = await engine.embed_images(list(loaded.values()), on_error="return")
        for index, error in embeddings.errors.items():
            errors[good[index]] = item_error(error, items[good[index]].param)
        return {p: row for p, row in zip(good, embeddings.features, strict=True) if p not in errors}, errors

    async def _texts(
        self, engine: Engine, fingerprint: str | None, items: dict[int, TextItem]
    ) -> tuple[dict[int, CachedText], dict[int, ApiError]]:
        found = {text: self._cache.get(fingerprint, text) for text in dict.fromkeys(i.text for i in items.values())}
        missing = [text for text, entry in found.items() if entry is None]
        refused: dict[str, TritonClipError] = {}
        if missing:
            embeddings = await engine.embed_texts(missing, on_error="return")
            errors = embeddings.errors
            refused = {missing[index]: error for index, error in errors.items()}
            good = [index for index in range(len(missing)) if index not in errors]
            tokens = await engine.count_tokens([missing[index] for index in good])
            for index, count in zip(good, tokens, strict=True):
                new = CachedText(embeddings.features[index].copy(), count)
                self._cache.put(fingerprint, missing[index], new)
                found[missing[index]] = new
        known = {p: entry for p, item in items.items() if (entry := found[item.text]) is not None}
        return known, {p: item_error(refused[item.text], item.param) for p, item in items.items() if p not in known}
