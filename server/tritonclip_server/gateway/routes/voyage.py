"""`POST /v1/multimodalembeddings`: Voyage's. Its texts are embedded, and its documents ranked, at OpenAI's paths."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from tritonclip_server.gateway.content.items import mixed_items
from tritonclip_server.gateway.content.truncation import truncated_field
from tritonclip_server.gateway.openapi import described
from tritonclip_server.gateway.parsing.body import read_request
from tritonclip_server.gateway.parsing.request_models import MAX_NAME, SAMPLE_IMAGE, TextsRequest
from tritonclip_server.gateway.responses.encodings import Dtype, encoded
from tritonclip_server.gateway.responses.json_responses import json_list, large_response
from tritonclip_server.gateway.responses.response_models import Embedding
from tritonclip_server.gateway.routes.common import check_dimensions, chosen, context_for, limits_of, made_of

router = APIRouter(tags=["other APIs"])

Inputs = Annotated[
    Any,
    WithJsonSchema(
        {"type": "array", "items": {"type": "object"}, "minItems": 1, "description": "each with a content of one part"}
    ),
]


class MultimodalRequest(TextsRequest):
    """Voyage's multimodal embeddings request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"inputs": [{"content": [{"type": "image_base64", "image_base64": SAMPLE_IMAGE}]}]}]
        }
    )

    inputs: Inputs
    input_type: str | None = Field(
        None, description="an input has one vector, for queries and documents alike", max_length=MAX_NAME
    )
    output_encoding: Literal["base64"] | None = None
    encoding_format: Literal["base64"] | None = Field(None, description="output_encoding, as Voyage's clients say it")
    output_dtype: Dtype | None = None
    output_dimension: int | None = Field(None, description="the model's own, or left out")


class MultimodalUsage(BaseModel):
    """What was worked on. Pixels are not counted."""

    text_tokens: int
    image_pixels: Literal[0]
    video_pixels: Literal[0]
    total_tokens: int
    num_images: int


class MultimodalResponse(BaseModel):
    """Voyage's list of embeddings."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: MultimodalUsage
    truncated: list[int] | None = None


@router.post("/v1/multimodalembeddings", response_model=MultimodalResponse, **described(MultimodalRequest))
async def multimodal_embeddings(request: Request) -> Response:
    """Voyage's multimodal embeddings.

    An input has one part, a text or an image: a CLIP vector is of one of them. Videos are refused.
    """
    limits = limits_of(request)
    asked = await read_request(request, MultimodalRequest, limits)
    service, manifest = await chosen(request, asked.model)
    check_dimensions(manifest, output_dimension=asked.output_dimension)
    items = await made_of(asked.inputs, lambda: mixed_items(asked.inputs, "inputs", limits))
    vectors = await service.embed(
        context_for(request), manifest, items, field="inputs", partial=False, truncate=asked.truncating()
    )
    in_base64 = asked.output_encoding is not None or asked.encoding_format is not None

    def answer() -> dict[str, Any]:
        rows = encoded(vectors.features, asked.output_dtype or "float", base64=in_base64)
        return {
            "object": "list",
            "model": service.model.id_of(manifest),
            "data": json_list(
                {"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)
            ),
            "usage": {
                "text_tokens": vectors.tokens,
                "image_pixels": 0,
                "video_pixels": 0,
                "total_tokens": vectors.tokens,
                "num_images": vectors.images,
            },
            **truncated_field(vectors.truncated),
        }

    return await large_response(answer, vectors.features.nbytes)
