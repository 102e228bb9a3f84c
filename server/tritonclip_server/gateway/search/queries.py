"""What a request looks for, as one vector: embedded as every other request's texts and images, and mixed.

text, image, minus ─> items ─> Service.embed ─> tritonclip.search.mix ─┐
vector ────────────────────────────────────────────────────────────────┴─> a unit vector [D]
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonclip import InputError, Manifest
from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.content.items import Item, image_items, text_items
from tritonclip_server.gateway.errors import ApiError, in_words
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.inference.service import Service
from tritonclip_server.gateway.parsing.search_request import SearchRequest
from tritonclip_server.gateway.settings import Limits


@dataclass(frozen=True, eq=False)
class Query:
    """A unit vector [D], and what it took."""

    vector: FloatArray
    tokens: int = 0
    images: int = 0
    truncated: bool = False  # a text of it was longer than the model reads

    @classmethod
    def none(cls) -> "Query":
        """That of a search which needs no model."""
        return cls(np.empty(0, np.float32))


def check_parts(asked: SearchRequest) -> None:
    """Raise ApiError where a request looks for nothing, or for two things that cannot be mixed."""
    parts = {"text or image": asked.text is not None or asked.image is not None}
    parts |= {"vector": asked.vector is not None, "like": asked.like is not None}
    given = [name for name, is_given in parts.items() if is_given]
    if not given:
        raise ApiError("missing_field", "give text, image, vector or like", param="text")
    if len(given) > 1:
        raise ApiError("invalid_value", f"cannot stand beside {given[0]}", param=given[-1])
    for name in ("minus", "weights"):
        if getattr(asked, name) is not None and not parts["text or image"]:
            raise ApiError("invalid_value", "goes with text or image", param=name)


async def query_of(
    service: Service, context: RequestContext, manifest: Manifest, asked: SearchRequest, limits: Limits
) -> Query:
    """The vector that a request asks for; ApiError where a part of it cannot be used."""
    if asked.vector is not None:
        return Query(_given(asked.vector, manifest))
    text: list[Item] = [] if asked.text is None else [_only(text_items(asked.text, "text", limits), "text")]
    image: list[Item] = [] if asked.image is None else [_only(image_items(asked.image, "image", limits), "image")]
    minus: list[Item] = [*_minus(asked, limits)]
    vectors = await service.embed(
        context, manifest, [*text, *image, *minus], field="minus", partial=False, truncate=asked.truncating()
    )
    rows = iter(vectors.features)
    parts = {name: next(rows) for name, items in (("text", text), ("image", image)) if items}
    return Query(_mixed(asked, parts, list(rows)), vectors.tokens, vectors.images, bool(vectors.truncated))


def _mixed(asked: SearchRequest, parts: dict[str, FloatArray], minus: list[FloatArray]) -> FloatArray:
    from tritonclip.search import Weights, mix  # only where there is an index: see `opening`

    weights = Weights() if asked.weights is None else Weights(**asked.weights.model_dump())
    try:
        return mix(weights, parts.get("text"), parts.get("image"), minus)
    except InputError as error:
        raise ApiError("invalid_value", error.reason, param="weights" if asked.weights else next(iter(parts))) from None


def _minus(asked: SearchRequest, limits: Limits) -> list[Any]:
    return [] if asked.minus is None else text_items(asked.minus, "minus", limits)


def _only(items: list[Any], field: str) -> Any:
    if len(items) != 1:
        raise ApiError("invalid_value", f"expected one, got {len(items)}: send a search for each", param=field)
    return items[0]


def _given(values: Any, manifest: Manifest) -> FloatArray:
    """A caller's own vector, with length 1."""
    if not isinstance(values, list):
        raise ApiError("invalid_value", f"expected a list of numbers, got {in_words(values)}", param="vector")
    if len(values) != (manifest.embedding_width or len(values)):
        message = f"{len(values)} numbers, and the model's vectors have {manifest.embedding_width}"
        raise ApiError("unsupported_dimensions", message, param="vector")
    for index, value in enumerate(values):
        if type(value) not in (int, float):
            raise ApiError("invalid_value", f"expected a number, got {in_words(value)}", param=f"vector[{index}]")
    try:
        vector = np.array(values, np.float64)
    except OverflowError:
        vector = np.full(1, np.inf)
    length = float(np.linalg.norm(vector))
    if not 0 < length < np.inf:
        raise ApiError("invalid_value", "its length is 0, or beyond what a number can hold", param="vector")
    return np.asarray(vector / length, np.float32)
