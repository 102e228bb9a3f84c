"""`POST /v1/ranking`: NVIDIA's reranking microservices (NIM), by the model's own logits."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from tritonclip_server.gateway.content.items import BadItem, mixed_item, mixed_items
from tritonclip_server.gateway.content.truncation import truncated_field
from tritonclip_server.gateway.inference.scores import calibrated, cosines
from tritonclip_server.gateway.openapi import described
from tritonclip_server.gateway.parsing.body import read_request
from tritonclip_server.gateway.parsing.request_models import Item, TextsRequest
from tritonclip_server.gateway.responses.json_responses import SCORE_BYTES, json_list, large_response
from tritonclip_server.gateway.responses.response_models import Truncated, Usage
from tritonclip_server.gateway.routes.common import chosen, context_for, limits_of, made_of, usage

router = APIRouter(tags=["other APIs"])


class RankingRequest(TextsRequest):
    """NVIDIA's ranking request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": {"text": "a red circle"}, "passages": [{"text": "a red disc"}, {"text": "a star"}]}]
        }
    )

    query: Item
    passages: Annotated[
        Any, WithJsonSchema({"type": "array", "items": {"type": "object"}, "description": "each a text or an image"})
    ]


class Ranking(BaseModel):
    """A passage's place."""

    index: int
    logit: float = Field(description="the cosine with the query at the model's own scale, as /v1/similarity has it")


class RankingResponse(BaseModel):
    """Passages, best first."""

    rankings: list[Ranking]
    usage: Usage
    truncated: Truncated = None
    query_truncated: bool | None = None


@router.post("/v1/ranking", response_model=RankingResponse, **described(RankingRequest))
async def ranking(request: Request) -> Response:
    """NVIDIA's ranking of passages, each a text or an image, by how well they fit a query, a text or an image."""
    limits = limits_of(request)
    asked = await read_request(request, RankingRequest, limits)
    service, manifest = await chosen(request, asked.model)
    query = mixed_item(asked.query, "query", limits)
    if isinstance(query, BadItem):
        raise query.error
    passages = await made_of(asked.passages, lambda: mixed_items(asked.passages, "passages", limits))
    vectors = await service.embed(
        context_for(request),
        manifest,
        [query, *passages],
        field="passages",
        partial=False,
        truncate=asked.truncating(),
    )
    logits = calibrated(manifest, cosines(vectors, 1))[0][0]

    def answer() -> dict[str, Any]:
        return {
            "rankings": json_list(
                {"index": int(index), "logit": float(logits[index])} for index in np.argsort(-logits, kind="stable")
            ),
            "usage": usage(vectors.tokens, vectors.images),
            **truncated_field(vectors.truncated, first=1),
            **({"query_truncated": True} if 0 in vectors.truncated else {}),
        }

    return await large_response(answer, len(logits) * SCORE_BYTES)
