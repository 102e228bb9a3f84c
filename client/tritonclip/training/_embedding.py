"""Labelled images and label texts to vectors, through the server and the cache.

images ──read, digest──> those not in the cache ──embed_image──> the cache, batch by batch ──> features [N, D]
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tritonclip import _defaults
from tritonclip._client import Client
from tritonclip._errors import ConfigError, InputError, ProtocolError, TritonClipError
from tritonclip._manifest import Manifest
from tritonclip.evaluation import LabelledImage
from tritonclip.evaluation._batches import in_batches
from tritonclip.protocol.messages import FloatArray
from tritonclip.training._cache import FeatureCache, digest_of


@dataclass(frozen=True)
class Embedded:
    """Images with their digests, in the data set's order; ``failures`` has the error of each other one, by its path.

    ``cached`` of them were in the cache before.
    """

    images: tuple[LabelledImage, ...]
    digests: tuple[bytes, ...]
    failures: dict[str, TritonClipError]
    cached: int


@dataclass(frozen=True)
class _Batch:
    """What became of a batch: digests of its images by path, new vectors by digest, errors by path."""

    digests: dict[Path, bytes]
    new: dict[bytes, FloatArray]
    failures: dict[Path, TritonClipError]
    cached: int


def open_cache(client: Client, folder: Path) -> FeatureCache:
    """The cache of the model that the server runs; ConfigError where the server does not say which that is."""
    manifest = client.manifest()
    fingerprint, width = _identity(manifest)
    return FeatureCache(folder, fingerprint, width)


def embed_labelled(
    client: Client, images: Sequence[LabelledImage], cache: FeatureCache, *, progress: bool = False
) -> Embedded:
    """Have the vectors of all images in the cache; what is there already is not asked for again.

    An image that cannot be read or is refused is in ``failures``. Raises ProtocolError where the server's model changes
    during the run, and what ``Client.embed_images`` raises.
    """
    fingerprint = client.manifest().fingerprint
    digests: dict[Path, bytes] = {}
    failures: dict[Path, TritonClipError] = {}
    cached = 0
    ask = partial(_embed_batch, client, cache)
    with (
        closing(tqdm(total=len(images), unit="image", disable=not progress)) as bar,
        closing(in_batches(images, _defaults.IMAGES_PER_REQUEST, _defaults.CONCURRENCY, ask)) as answered,
    ):
        for batch, found in answered:
            if found.new:
                _check_model(client, fingerprint)  # so that what was answered before is of the model of the cache
                cache.add(found.new, np.stack(list(found.new.values())))
            digests |= found.digests
            failures |= found.failures
            cached += found.cached
            bar.update(len(batch))
    kept = tuple(image for image in images if image.path in digests)
    failed = {str(image.path): failures[image.path] for image in images if image.path in failures}
    return Embedded(kept, tuple(digests[image.path] for image in kept), failed, cached)


def label_vectors(
    client: Client,
    labels: Sequence[str],
    templates: Sequence[str],
    cache: FeatureCache,
    *,
    progress: bool = False,
) -> FloatArray:
    """A vector for each label, float32 [C, D] of length 1: the normalised mean of the features of its prompts.

    A label's place in a template is ``{}``. Raises InputError for a prompt that is longer than what the model reads.
    """
    prompts = [template.replace("{}", label) for label in labels for template in templates]
    digests = [digest_of(prompt.encode(), "text") for prompt in prompts]
    missing = {digest: prompt for digest, prompt in zip(digests, prompts, strict=True) if digest not in cache}
    fingerprint = client.manifest().fingerprint

    def ask(batch: Sequence[tuple[bytes, str]]) -> FloatArray:
        texts = [prompt for _, prompt in batch]
        try:
            return client.embed_texts(texts, on_truncation="raise").features
        except InputError as exc:
            text = texts[exc.index] if exc.index is not None else texts[0]
            raise InputError(f"{text[:90]!r}: {exc.reason}", noun="prompt") from exc

    with (
        closing(tqdm(total=len(missing), unit="prompt", disable=not progress)) as bar,
        closing(in_batches(list(missing.items()), _defaults.TEXTS_PER_REQUEST, _defaults.CONCURRENCY, ask)) as answered,
    ):
        for batch, rows in answered:
            _check_model(client, fingerprint)
            cache.add([digest for digest, _ in batch], rows)
            bar.update(len(batch))
    means = cache.rows(digests).reshape(len(labels), len(templates), -1).mean(axis=1)
    vectors: FloatArray = means / np.linalg.norm(means, axis=1, keepdims=True)
    return vectors


def _embed_batch(client: Client, cache: FeatureCache, batch: Sequence[LabelledImage]) -> _Batch:
    digests: dict[Path, bytes] = {}
    failures: dict[Path, TritonClipError] = {}
    waiting: dict[bytes, bytes] = {}
    cached = 0
    for image in batch:
        try:
            content = image.path.read_bytes()
        except OSError as exc:
            failures[image.path] = InputError(exc.strerror or str(exc), noun="image")
            continue
        digest = digests[image.path] = digest_of(content, "image")
        if digest in cache:
            cached += 1
        else:
            waiting[digest] = content
    found = client.embed_images(waiting.values(), on_error="return")
    new: dict[bytes, FloatArray] = {}
    for position, digest in enumerate(waiting):
        if (error := found.errors.get(position)) is None:
            new[digest] = found.features[position]
            continue
        for path in [path for path, own in digests.items() if own == digest]:
            failures[path] = error
            del digests[path]
    return _Batch(digests, new, failures, cached)


def _identity(manifest: Manifest) -> tuple[str, int]:
    if manifest.fingerprint is None or manifest.embedding_width is None:
        raise ConfigError("the server does not say its fingerprint and its width, so a head could belong to any model")
    if not manifest.fingerprint.isalnum():  # it becomes the name of a file
        raise ProtocolError(f"manifest: fingerprint: expected letters and digits, got {manifest.fingerprint[:80]!r}")
    return manifest.fingerprint, manifest.embedding_width


def _check_model(client: Client, fingerprint: str | None) -> None:
    now = client.manifest(refresh=True).fingerprint
    if now != fingerprint:
        raise ProtocolError(f"the server's model changed during the run: fingerprint {fingerprint}, now {now}")
