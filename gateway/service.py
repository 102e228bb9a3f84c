"""The request path that all endpoints share: the model, then room for the items, then vectors or labels.

items ─> count, images a minute, items in flight ─> Embedder, with the time that is left ─> Vectors
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.admission import Admission
from gateway.embedding import Embedder, Vectors
from gateway.engine import Engine
from gateway.errors import ApiError, item_error
from gateway.exchange import Exchange
from gateway.intake import ImageItem, Intake, Item
from gateway.metrics import Metrics
from gateway.rates import RateLimiter
from gateway.settings import Settings
from gateway.text_cache import TextCache
from gateway.urls import Fetcher
from tritonclip import Manifest, Prediction


@dataclass(frozen=True)
class Labelled:
    """Labels of each image, best first; `errors` says which images have none, and why."""

    predictions: Sequence[Sequence[Prediction]]
    errors: dict[int, ApiError]
    tokens: int = 0  # of all labels that were texts


class Service:
    """Does the work of one request within the limits of all."""

    def __init__(
        self, engine: Engine, settings: Settings, *, metrics: Metrics, rates: RateLimiter, fetcher: Fetcher | None
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.fingerprint: str | None = None  # of the model, once it is known
        self._rates = rates
        self._admission = Admission(settings.limits.items_in_flight, metrics)
        self._embedder = Embedder(Intake(settings.limits, fetcher), TextCache(settings.limits.cached_texts, metrics))

    async def manifest(self, *, refresh: bool = False) -> Manifest:
        """What is deployed."""
        manifest = await self.engine.manifest(refresh=refresh)
        self.fingerprint = manifest.fingerprint
        return manifest

    async def model(self, name: str | None) -> Manifest:
        """The manifest of the model that a request names, or of the only one where it names none."""
        manifest = await self.manifest()
        model = model_id(manifest)
        if name is not None and name != model and name not in self.settings.aliases:
            raise ApiError("model_not_found", f"there is no model {name!r}; there is {model!r}", param="model")
        return manifest

    async def embed(
        self, exchange: Exchange, manifest: Manifest, items: Sequence[Item], *, field: str, partial: bool
    ) -> Vectors:
        """Embed texts and images; `field` is what a request with too many of them has to shorten.

        Without `partial` the first item that fails is the error of the whole request.
        """
        with self._admitted(exchange, items, field):
            vectors = await self._embedder.embed(self._engine(exchange), manifest, items)
        if vectors.errors and (not partial or len(vectors.errors) == len(items)):
            raise next(iter(vectors.errors.values()))
        return vectors

    async def label(
        self,
        exchange: Exchange,
        images: Sequence[ImageItem],
        *,
        label_set: str,
        top_k: int | None,
        partial: bool,
    ) -> Labelled:
        """Classify images with a label set that is stored with the model."""
        with self._admitted(exchange, images, "images"):
            loaded, errors = await self._embedder.load(images)
            found = await self._engine(exchange).classify(
                list(loaded.values()), label_set=label_set, top_k=top_k, on_error="return"
            )
        predictions: list[Sequence[Prediction]] = [()] * len(images)
        for position, labels in zip(loaded, found, strict=True):
            predictions[position] = labels
        positions = list(loaded)
        errors |= {positions[i]: item_error(e, images[positions[i]].param) for i, e in found.errors.items()}
        if errors and (not partial or len(errors) == len(images)):
            raise errors[min(errors)]
        return Labelled(predictions, dict(sorted(errors.items())))

    def _engine(self, exchange: Exchange) -> Engine:
        return self.engine.with_timeout(max(0.001, exchange.seconds_left))

    @contextmanager
    def _admitted(self, exchange: Exchange, items: Sequence[Item], field: str) -> Iterator[None]:
        limit = self.settings.limits.items
        if len(items) > limit:
            raise ApiError("too_many_items", f"{len(items)} items, more than the limit of {limit}", param=field)
        images = sum(isinstance(item, ImageItem) for item in items)
        with self._admission.admit(images, len(items) - images):
            if exchange.key is not None and images:
                self._rates.charge(exchange.key, "images", images, exchange.headers)
            yield


def model_id(manifest: Manifest) -> str:
    """What the API calls the model that is deployed."""
    return manifest.variant or "default"
