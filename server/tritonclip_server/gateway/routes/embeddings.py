"""`POST /v1/embeddings`: OpenAI's, with images as NV-CLIP, Jina, infinity and vLLM take them."""

from typing import Any

from fastapi import APIRouter, Request, Response

from tritonclip_server.gateway.content.items import Item, input_items, mixed_items
from tritonclip_server.gateway.content.parts import only_part
from tritonclip_server.gateway.content.token_ids import token_count
from tritonclip_server.gateway.content.truncation import truncated_field
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.openapi import described
from tritonclip_server.gateway.parsing.body import read_request
from tritonclip_server.gateway.parsing.request_models import EmbeddingsRequest
from tritonclip_server.gateway.responses.encodings import Dtype, encoded, encoding_of
from tritonclip_server.gateway.responses.json_responses import json_list, large_response
from tritonclip_server.gateway.responses.response_models import EmbeddingsResponse
from tritonclip_server.gateway.routes.common import (
    check_dimensions,
    chosen,
    context_for,
    errors_field,
    limits_of,
    made_of,
    one_of,
    usage,
)
from tritonclip_server.gateway.settings import Limits

BYTES_OF_A_TOKEN = 3  # on top of its 4 or more in the body: in memory an id takes 36, and 6.5 times 7 are reckoned with

router = APIRouter(tags=["API"])


@router.post("/embeddings", response_model=EmbeddingsResponse, **described(EmbeddingsRequest))
@router.post("/v1/embeddings", response_model=EmbeddingsResponse, **described(EmbeddingsRequest))
async def embeddings(request: Request) -> Response:
    """Embed texts and images.

    A bare string that is a data URL is an image, and another one a text; what looks like an image sent in another way
    (a URL, base64) is an error, unless `modality` says what bare strings are. The order is kept, and `index` counts
    from 0. With `"partial": true` items that fail are left out of `data` and named in `errors`. Texts that are longer
    than the model reads are cut and listed in `truncated`, or refused, as `truncate` says. Vectors are written as
    float, int8 or uint8, or as bits: `binary` and `ubinary`, eight of them a number. /embeddings is the same,
    as infinity and text-embeddings-inference have it.
    """
    limits = limits_of(request)
    asked = await read_request(request, EmbeddingsRequest, limits)
    service, manifest = await chosen(request, asked.model)
    check_dimensions(manifest, dimensions=asked.dimensions, output_dimension=asked.output_dimension)
    dtype, base64 = _encoding(asked, request)
    field, value = one_of({"input": asked.input, "messages": asked.messages})
    if tokens := token_count(asked.input):
        context_for(request).hold_more(tokens * BYTES_OF_A_TOKEN)
    items = await made_of(value, lambda: _items(asked, limits))
    vectors = await service.embed(
        context_for(request), manifest, items, field=field, partial=asked.partial, truncate=asked.truncating()
    )

    def answer() -> dict[str, Any]:
        good = [index for index in range(len(items)) if index not in vectors.errors]
        rows = encoded(vectors.features[good], dtype, base64=base64)
        return {
            "object": "list",
            "model": service.model.id_of(manifest),
            "data": json_list(
                {"object": "embedding", "index": index, "embedding": row} for index, row in zip(good, rows, strict=True)
            ),
            "usage": usage(vectors.tokens, vectors.images),
            **truncated_field(vectors.truncated),
            **errors_field(vectors.errors),
        }

    return await large_response(answer, vectors.features.nbytes)


def _items(asked: EmbeddingsRequest, limits: Limits) -> list[Item]:
    if asked.messages is not None:
        return _from_messages(asked, limits)
    return input_items(asked.input, "input", limits, asked.modality)


def _encoding(asked: EmbeddingsRequest, request: Request) -> tuple[Dtype, bool]:
    """How vectors are written; an error where OpenAI's SDK would take other numbers for float32.

    It asks for base64 unless told which `encoding_format`, and reads it as float32, whatever `output_dtype` it sends.
    """
    dtype, base64 = encoding_of(
        asked.encoding_format,
        embedding_type=asked.embedding_type,
        embedding_types=asked.embedding_types,
        output_dtype=asked.output_dtype,
    )
    if base64 and dtype != "float" and "x-stainless-lang" in request.headers:
        message = f"OpenAI's SDK reads all base64 as float32: ask for {dtype} with encoding_format, and nothing else"
        raise ApiError("invalid_value", message, param="encoding_format")
    return dtype, base64


def _from_messages(asked: EmbeddingsRequest, limits: Limits) -> list[Item]:
    """vLLM's way: one message whose content is a text, or one part."""
    messages = asked.messages
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], dict):
        raise ApiError("invalid_value", "expected one message", param="messages")
    content, param = only_part(messages[0].get("content"), "messages[0].content")
    return mixed_items(content, param, limits, asked.modality)
