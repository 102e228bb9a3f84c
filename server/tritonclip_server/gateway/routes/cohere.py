"""`POST /v2/embed` and `/v1/embed`: Cohere's embeddings of texts, images and inputs of one part, in several types."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from tritonclip_server.gateway.content.items import Item, image_items, mixed_items, text_items
from tritonclip_server.gateway.content.truncation import check_most_tokens, truncated_field
from tritonclip_server.gateway.inference.embedding import Vectors
from tritonclip_server.gateway.openapi import described
from tritonclip_server.gateway.parsing.body import read_request
from tritonclip_server.gateway.parsing.request_models import MAX_NAME, Image, Text, TextsRequest, TokensRead
from tritonclip_server.gateway.responses.encodings import encoded
from tritonclip_server.gateway.responses.json_responses import json_list, large_response
from tritonclip_server.gateway.routes.common import check_dimensions, chosen, context_for, limits_of, made_of, one_of
from tritonclip_server.gateway.settings import Limits

router = APIRouter(tags=["other APIs"])

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
Inputs = Annotated[
    Any,
    WithJsonSchema({"type": "array", "items": {"type": "object"}, "description": "each with a content of one part"}),
]


class CohereEmbedRequest(TextsRequest):
    """Cohere's embed request, of either version: `texts`, `images` or `inputs`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"texts": ["a red circle"], "embedding_types": ["float", "int8"]}]}
    )

    texts: Text = None
    images: Image = None
    inputs: Inputs = None
    input_type: str | None = Field(
        None, description="a text has one vector, for queries and documents alike", max_length=MAX_NAME
    )
    embedding_types: list[EmbeddingType] | None = Field(None, description="float, where it is left out")
    max_tokens: TokensRead = None
    output_dimension: int | None = Field(None, description="the model's own, or left out")


class CohereEmbedResponse(BaseModel):
    """Cohere's answer: lists by type or, from /v1/embed where no types were asked for, one list of vectors."""

    id: str
    response_type: Literal["embeddings_floats", "embeddings_by_type"]
    embeddings: list[list[float]] | dict[EmbeddingType, list[list[float]] | list[list[int]] | list[str]]
    texts: list[str]
    meta: dict[str, Any]
    truncated: list[int] | None = None


@router.post("/v1/embed", response_model=CohereEmbedResponse, **described(CohereEmbedRequest))
@router.post("/v2/embed", response_model=CohereEmbedResponse, **described(CohereEmbedRequest))
async def embed(request: Request) -> Response:
    """Cohere's embeddings.

    An input has one part, a text or an image: a CLIP vector is of one of them. `base64` is of little-endian float32.
    The answer's `truncated` lists what is longer than the model reads, unless `truncate` is NONE, which refuses it.
    """
    limits = limits_of(request)
    asked = await read_request(request, CohereEmbedRequest, limits)
    service, manifest = await chosen(request, asked.model)
    check_dimensions(manifest, output_dimension=asked.output_dimension)
    check_most_tokens(asked.max_tokens, manifest, "max_tokens")
    field, value = one_of({"texts": asked.texts, "images": asked.images, "inputs": asked.inputs})
    items = await made_of(value, lambda: _items(value, field, limits))
    context = context_for(request)
    vectors = await service.embed(context, manifest, items, field=field, partial=False, truncate=asked.truncating())
    version = request.scope["route"].path[2]
    types = asked.embedding_types or (["float"] if version == "2" else None)
    texts = asked.texts if isinstance(asked.texts, list) else [asked.texts] if asked.texts is not None else []

    def answer() -> dict[str, Any]:
        return {
            "id": context.request_id,
            "response_type": "embeddings_floats" if types is None else "embeddings_by_type",
            "embeddings": json_list(vectors.features) if types is None else _by_type(vectors, types),
            "texts": json_list(texts),
            "meta": {
                "api_version": {"version": version},
                "billed_units": {"input_tokens": vectors.tokens, "images": vectors.images},
            },
            **truncated_field(vectors.truncated),
        }

    return await large_response(answer, vectors.features.nbytes * len(types or "1") + sum(map(len, texts)))


def _items(value: Any, field: str, limits: Limits) -> Sequence[Item]:
    if field == "inputs":
        return mixed_items(value, field, limits)
    return (text_items if field == "texts" else image_items)(value, field, limits)


def _by_type(vectors: Vectors, types: Sequence[EmbeddingType]) -> dict[str, Any]:
    return {
        kind: json_list(
            encoded(vectors.features, "float", base64=True) if kind == "base64" else encoded(vectors.features, kind)
        )
        for kind in dict.fromkeys(types)
    }
