"""`POST /score` and `/v1/score`: vLLM's, the cosines of pairs, as it answers them for models that embed."""

import time
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tritonclip_server.gateway.content.items import Item, mixed_items
from tritonclip_server.gateway.content.truncation import truncated_field
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.openapi import described
from tritonclip_server.gateway.parsing.body import read_request
from tritonclip_server.gateway.parsing.request_models import Items, TextsRequest
from tritonclip_server.gateway.responses.json_responses import SCORE_BYTES, json_list, large_response
from tritonclip_server.gateway.responses.response_models import Usage
from tritonclip_server.gateway.routes.common import chosen, context_for, limits_of, made_of, one_of, usage
from tritonclip_server.gateway.settings import Limits

router = APIRouter(tags=["other APIs"])


class ScoreRequest(TextsRequest):
    """vLLM's score request: one text or image and one or more others, or as many of the one as of the other."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"queries": "a red circle", "documents": ["a red disc", "a blue star"]}]}
    )

    text_1: Items = None
    text_2: Items = None
    queries: Items = None
    documents: Items = None
    items: Items = Field(None, description="another name for documents")
    data_1: Items = None
    data_2: Items = None


class Score(BaseModel):
    """A pair's score."""

    object: Literal["score"]
    index: int
    score: float = Field(description="the cosine, -1 to 1")


class ScoreResponse(BaseModel):
    """vLLM's list of scores."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Score]
    usage: Usage
    truncated: list[int] | None = Field(None, description="of the first's, then the second's texts those that were cut")


@router.post("/score", response_model=ScoreResponse, **described(ScoreRequest))
@router.post("/v1/score", response_model=ScoreResponse, **described(ScoreRequest))
async def score(request: Request) -> Response:
    """vLLM's scores: the cosine of each pair.

    One on the first side is paired with each on the second; several with as many, one by one.
    """
    limits = limits_of(request)
    asked = await read_request(request, ScoreRequest, limits)
    service, manifest = await chosen(request, asked.model)
    first_field, value = one_of({"queries": asked.queries, "text_1": asked.text_1, "data_1": asked.data_1})
    first = await _side(value, first_field, limits)
    field, value = one_of(
        {"documents": asked.documents, "text_2": asked.text_2, "data_2": asked.data_2, "items": asked.items}
    )
    second = await _side(value, field, limits)
    if len(first) not in (1, len(second)):
        message = f"{len(first)} and {len(second)}: expected one, or as many as in {field}"
        raise ApiError("invalid_value", message, param=first_field)
    context = context_for(request)
    vectors = await service.embed(
        context, manifest, [*first, *second], field=field, partial=False, truncate=asked.truncating()
    )
    pairs = vectors.features[: len(first)] * vectors.features[len(first) :]
    scores = np.clip(pairs.sum(axis=1), -1, 1)

    def answer() -> dict[str, Any]:
        return {
            "id": context.request_id,
            "object": "list",
            "created": int(time.time()),
            "model": service.model.id_of(manifest),
            "data": json_list(
                {"object": "score", "index": index, "score": float(value)} for index, value in enumerate(scores)
            ),
            "usage": usage(vectors.tokens, vectors.images),
            **truncated_field(vectors.truncated),
        }

    return await large_response(answer, len(scores) * SCORE_BYTES)


async def _side(value: Any, field: str, limits: Limits) -> list[Item]:
    """One or more texts and images: as everywhere, or the parts of one content, as vLLM has several images."""
    if isinstance(value, dict) and value.keys() == {"content"} and isinstance(value["content"], list):
        value, field = value["content"], f"{field}.content"
    return await made_of(value, lambda: mixed_items(value, field, limits))
