"""`POST /v1/embeddings`: OpenAI's, with images as NV-CLIP, Jina, infinity and vLLM take them."""

from typing import Any

from fastapi import APIRouter, Request, Response

from gateway.answers import json_answer, vector
from gateway.bodies import read_request
from gateway.errors import ApiError
from gateway.intake import Item, mixed_items
from gateway.openapi import described
from gateway.replies import EmbeddingsReply
from gateway.routes.common import errors_field, exchange_for, one_of, service_of, usage
from gateway.schemas import EmbeddingsRequest
from gateway.service import model_id
from gateway.settings import Limits
from tritonclip import Manifest

router = APIRouter(tags=["API"])


@router.post("/v1/embeddings", response_model=EmbeddingsReply, **described(EmbeddingsRequest))
async def embeddings(request: Request) -> Response:
    """Embed texts and images.

    A bare string that is a data URL is an image, any other a text, unless `modality` says what they are. The order
    is kept, and `index` counts from 0. With `"partial": true` items that fail are left out of `data` and named in
    `errors`.
    """
    service = service_of(request)
    limits = service.settings.limits
    asked = await read_request(request, EmbeddingsRequest, limits)
    manifest = await service.model(asked.model)
    _check_dimensions(asked, manifest)
    field, _ = one_of({"input": asked.input, "messages": asked.messages})
    items = _from_messages(asked.messages, limits) if field == "messages" else _from_input(asked, limits)
    vectors = await service.embed(exchange_for(request), manifest, items, field=field, partial=asked.partial)
    encoding = asked.encoding_format or asked.embedding_type or "float"
    return json_answer(
        {
            "object": "list",
            "model": model_id(manifest),
            "data": [
                {"object": "embedding", "index": index, "embedding": vector(row, encoding)}
                for index, row in enumerate(vectors.features)
                if index not in vectors.errors
            ],
            "usage": usage(vectors.tokens, vectors.images),
            **errors_field(vectors.errors),
        }
    )


def _from_input(asked: EmbeddingsRequest, limits: Limits) -> list[Item]:
    return mixed_items(asked.input, "input", limits, asked.modality)


def _check_dimensions(asked: EmbeddingsRequest, manifest: Manifest) -> None:
    width = manifest.embedding_width
    if asked.dimensions is not None and asked.dimensions != width:
        raise ApiError("unsupported_dimensions", f"the model's vectors have {width} dimensions", param="dimensions")


def _from_messages(messages: Any, limits: Limits) -> list[Item]:
    """vLLM's way: one message whose content is a text, or one part."""
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], dict):
        raise ApiError("invalid_value", "expected one message", param="messages")
    content, param = messages[0].get("content"), "messages[0].content"
    if isinstance(content, list):
        if len(content) != 1:
            raise ApiError("invalid_value", "expected one part: a CLIP vector is of one text or one image", param=param)
        content, param = content[0], f"{param}[0]"
        if isinstance(content, dict) and content.get("type") not in ("text", "image_url"):
            raise ApiError("invalid_value", "expected a part of type text or image_url", param=f"{param}.type")
    return mixed_items(content, param, limits)
