"""What Weaviate's module multi2vec-clip asks of its inference service: `/vectorize`, `/meta`, `/.well-known/…`.

The module sends no key, and no content type.
"""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tritonclip_server.gateway.content.items import Item, image_items, text_items
from tritonclip_server.gateway.openapi import ERRORS, described
from tritonclip_server.gateway.parsing.body import read_request
from tritonclip_server.gateway.parsing.request_models import SAMPLE_IMAGE, Image, Text, TextsRequest
from tritonclip_server.gateway.responses.json_responses import json_list, json_response, large_response
from tritonclip_server.gateway.responses.response_models import ModelResponse
from tritonclip_server.gateway.routes.common import chosen, context_for, limits_of, made_of, one_of, say_truncated
from tritonclip_server.gateway.routes.health import problem_of
from tritonclip_server.gateway.routes.models import describe

router = APIRouter(tags=["other APIs"])


class VectorizeRequest(TextsRequest):
    """What Weaviate has of one object, or of one query."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": ["a red square"], "images": [SAMPLE_IMAGE]}]})

    texts: Text = None
    images: Image = None


class VectorizeResponse(BaseModel):
    """A vector of each text, and of each image."""

    text_vectors: list[list[float]] = Field(alias="textVectors")
    image_vectors: list[list[float]] = Field(alias="imageVectors")


@router.post("/vectorize", response_model=VectorizeResponse, **described(VectorizeRequest))
async def vectorize(request: Request) -> Response:
    """Weaviate's vectors of texts and images. A text that is longer than the model reads is cut: `x-truncated` says."""
    limits = limits_of(request)
    asked = await read_request(request, VectorizeRequest, limits)
    service, manifest = await chosen(request, asked.model)
    if not (asked.texts or asked.images):
        one_of({"texts": None, "images": None})
    texts = await made_of(asked.texts, lambda: text_items(asked.texts, "texts", limits)) if asked.texts else []
    images = image_items(asked.images, "images", limits) if asked.images else []
    items: list[Item] = [*texts, *images]
    field = "images" if images else "texts"
    vectors = await service.embed(
        context_for(request), manifest, items, field=field, partial=False, truncate=asked.truncating()
    )
    say_truncated(request, vectors.truncated)

    def answer() -> dict[str, Any]:
        return {
            "textVectors": json_list(vectors.features[: len(texts)]),
            "imageVectors": json_list(vectors.features[len(texts) :]),
        }

    return await large_response(answer, vectors.features.nbytes)


@router.get("/meta", response_model=ModelResponse, responses=ERRORS)
async def meta(request: Request) -> Response:
    """The default model, which Weaviate shows among what it knows of its modules."""
    service, _ = await chosen(request, None)
    return json_response(describe(service.model, service.model.id))


@router.get("/.well-known/live", status_code=204, response_class=Response, tags=["operations"])
async def live() -> Response:
    """Whether this process answers, for Weaviate."""
    return Response(status_code=204)


@router.get("/.well-known/ready", status_code=204, response_class=Response, tags=["operations"])
async def ready(request: Request) -> Response:
    """Whether the default model answers rightly, for Weaviate, which waits for it when it starts."""
    return Response(status_code=204 if await problem_of(request, None) is None else 503)
