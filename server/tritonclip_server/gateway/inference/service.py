"""The request path that all endpoints share once a model is chosen: room for the items, then vectors or labels.

items ─> count, images a minute ─> UrlLoader ─> Embedder ─parts, each with places in flight─> Vectors
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tritonclip import Manifest
from tritonclip_server.gateway.access.rate_limit import RateLimiter
from tritonclip_server.gateway.admission.fair_semaphore import QueueLimits
from tritonclip_server.gateway.admission.places import Admission, Kind, Turn
from tritonclip_server.gateway.content.image_loader import ImageLoader
from tritonclip_server.gateway.content.items import ImageItem, Item, TextItem, check_counts, errors_of
from tritonclip_server.gateway.content.truncation import may_cut
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.fetching.url_loader import UrlLoader, has_urls
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.inference.classification import (
    Labelled,
    LabelScores,
    best_labels,
    joined,
    label_scores,
    stored_labels,
)
from tritonclip_server.gateway.inference.embedding import Embedder, Vectors
from tritonclip_server.gateway.inference.engine import Inference
from tritonclip_server.gateway.inference.readiness import Readiness
from tritonclip_server.gateway.inference.served_model import ServedModel
from tritonclip_server.gateway.inference.text_cache import TextCache
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.settings import Limits
from tritonclip_server.gateway.threads import in_thread_if

MANY_LABELS = 64  # compared in a thread
NAMED_ITEMS = 8  # in an error that several have


class Service:
    """Does the work of one request with a model, within the limits of all its requests.

    Places and cached texts are the model's own; rates and fetched images are what callers have of the whole gateway.
    """

    def __init__(
        self,
        model: ServedModel,
        limits: Limits,
        *,
        metrics: Metrics,
        rate_limiter: RateLimiter,
        url_loader: UrlLoader,
    ) -> None:
        self.model = model
        self.readiness = Readiness(model, metrics)
        self.text_cache = TextCache(limits.cached_texts, limits.cached_text_bytes, metrics, model.name)
        self._limits = limits
        self._rate_limiter = rate_limiter
        self._metrics = metrics
        self._url_loader = url_loader
        bounds = QueueLimits(limits.waiting, limits.waiting_seconds)
        self._admission = Admission(limits.items_in_flight, bounds, metrics, model.name)
        self._embedder = Embedder(ImageLoader(limits), self.text_cache)
        metrics.expect(model.name)

    async def embed(
        self,
        context: RequestContext,
        manifest: Manifest,
        items: Sequence[Item],
        *,
        field: str,
        partial: bool,
        truncate: Any = None,
    ) -> Vectors:
        """Embed texts and images; `field` is what a request with too many of them has to shorten.

        Without `partial` the first item that fails is the error of the whole request. `may_cut` reads `truncate`.
        """
        cut = may_cut(truncate, manifest)
        async with self._let_in(context, items, field, partial) as (here, turn):
            vectors = await self._embedder.embed(turn, manifest, here, may_cut=cut)
        _raise_errors(vectors.errors, len(items), partial)
        return vectors

    async def score_labels(
        self,
        context: RequestContext,
        manifest: Manifest,
        items: Sequence[Item],
        labels: Sequence[TextItem],
        prompts: Sequence[TextItem],
        *,
        partial: bool = False,
        truncate: Any = None,
    ) -> LabelScores:
        """How well a request's labels fit items, by the prompts that a template made of them."""
        vectors = await self.embed(
            context,
            manifest,
            [*items, *prompts],
            field=labels[0].param.partition("[")[0],
            partial=partial,
            truncate=truncate,
        )
        return await in_thread_if(len(labels) > MANY_LABELS, lambda: label_scores(manifest, vectors, labels))

    async def classify(
        self,
        context: RequestContext,
        manifest: Manifest,
        images: Sequence[ImageItem],
        labels: Sequence[TextItem],
        prompts: Sequence[TextItem],
        *,
        top_k: int | None = None,
        partial: bool = False,
        truncate: Any = None,
    ) -> Labelled:
        """The best of a request's labels for each image."""
        scores = await self.score_labels(context, manifest, images, labels, prompts, partial=partial, truncate=truncate)
        predictions = await in_thread_if(
            scores.cosines.size > MANY_LABELS, lambda: best_labels(manifest, scores.cosines, labels, top_k)
        )
        return Labelled(predictions, scores.errors, scores.tokens, scores.truncated)

    async def classify_stored(
        self,
        context: RequestContext,
        manifest: Manifest,
        images: Sequence[ImageItem],
        *,
        label_set: str,
        top_k: int | None,
        partial: bool,
    ) -> Labelled:
        """Classify images with a label set that is stored with the model."""
        labels = manifest.label_sets[label_set].labels
        count = min(top_k or labels, labels)

        async def ask(engine: Inference, part: Sequence[Item]) -> Labelled:
            loaded, errors = await self._embedder.load(part)
            found = await stored_labels(engine, manifest, loaded, part, label_set, count)
            return Labelled(found.predictions, errors | dict(found.errors))

        async with self._let_in(context, images, "images", partial) as (here, turn):
            found = joined(await turn.in_parts(Kind.IMAGE, here, ask))
        _raise_errors(found.errors, len(images), partial)
        return found

    @asynccontextmanager
    async def _let_in(
        self, context: RequestContext, items: Sequence[Item], field: str, partial: bool
    ) -> AsyncIterator[tuple[Sequence[Item], Turn]]:
        """The items, images from URLs fetched, and the request's turns in the engine.

        Images a minute are charged before anything is done, and given back where the engine had no room.
        """
        images = sum(isinstance(item, ImageItem) for item in items)
        context.images, context.texts = images, len(items) - images
        check_counts(images, len(items) - images, field, self._limits)
        _raise_errors(errors_of(items), len(items), partial)
        self._charge(context, images)
        here = items
        if has_urls(items):
            with context.stage("fetch"):
                here = await self._url_loader.fetched(context.caller, items, context.hold_more)
            _raise_errors(errors_of(here), len(here), partial)
        turn = self._admission.turn(context, self.model.engine)
        try:
            yield here, turn
        finally:
            if not turn.turned_away:
                self._metrics.items.labels("image", self.model.name).inc(images)
                self._metrics.items.labels("text", self.model.name).inc(len(items) - images)
            elif context.key is not None:
                self._rate_limiter.give_back(context.key, "images", images)

    def _charge(self, context: RequestContext, images: int) -> None:
        if context.key is not None and images:
            self._rate_limiter.charge(context.key, "images", images, context.headers)


def _raise_errors(errors: Mapping[int, ApiError], items: int, partial: bool) -> None:
    """Raise the first of the errors of so many items, unless there are others to answer for, and they are wanted.

    It says which other items have the same fault.
    """
    if not errors or (partial and len(errors) < items):
        return
    first, *others = (errors[position] for position in sorted(errors))
    alike = [str(error.param) for error in others if error.code == first.code and error.param]
    if not alike:
        raise first
    listed = ", ".join(alike[:NAMED_ITEMS]) + ("" if len(alike) <= NAMED_ITEMS else ", …")
    raise ApiError(first.code, f"{first.reason} (likewise {listed})", param=first.param)
