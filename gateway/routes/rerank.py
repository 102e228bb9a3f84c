"""`POST /v1/rerank`, Cohere's and Jina's: documents by how well they fit a query, texts and images alike."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from gateway.answers import json_answer
from gateway.bodies import read_request
from gateway.errors import ApiError
from gateway.intake import mixed_item, mixed_items
from gateway.openapi import described
from gateway.replies import RerankReply
from gateway.routes.common import cosines, errors_field, exchange_for, service_of, usage
from gateway.schemas import RerankRequest
from gateway.service import model_id

router = APIRouter(tags=["API"])


@router.post("/v1/rerank", response_model=RerankReply, **described(RerankRequest))
@router.post("/v2/rerank", response_model=RerankReply, **described(RerankRequest))
async def rerank(request: Request) -> Response:
    """Rank documents, each a text or an image, by their cosine with the query, a text or an image.

    Cosines of texts with texts are larger than those of texts with images: rank documents of one kind at a time.
    /v2/rerank is the same, for Cohere's newer client. With `"partial": true` documents that fail are left out of
    `results` and named in `errors`.
    """
    service = service_of(request)
    limits = service.settings.limits
    asked = await read_request(request, RerankRequest, limits)
    manifest = await service.model(asked.model)
    if asked.query is None:
        raise ApiError("missing_field", "give a query", param="query")
    query = mixed_item(asked.query, "query", limits)
    documents = mixed_items(asked.documents, "documents", limits)
    exchange = exchange_for(request)
    vectors = await service.embed(exchange, manifest, [query, *documents], field="documents", partial=asked.partial)
    if 0 in vectors.errors:
        raise vectors.errors[0]
    errors = {position - 1: error for position, error in vectors.errors.items()}
    scores = cosines(vectors, 1)[0]
    order = [int(index) for index in np.argsort(-scores, kind="stable") if index not in errors]
    given = asked.documents if isinstance(asked.documents, list) else [asked.documents]
    return json_answer(
        {
            "id": exchange.request_id,
            "object": "list",
            "model": model_id(manifest),
            "results": [
                {"index": index, "relevance_score": float(scores[index])}
                | ({"document": _shown(given[index])} if asked.return_documents else {})
                for index in order[: asked.top_n]
            ],
            "meta": {"api_version": {"version": request.url.path[2:3]}, "billed_units": {"search_units": 1}},
            "usage": usage(vectors.tokens, vectors.images),
            **errors_field(errors),
        }
    )


def _shown(document: Any) -> dict[str, Any]:
    """A document as it comes back: a text under "text", an image as it was given, an upload as what it was."""
    if isinstance(document, dict):
        return document
    return {"text": document} if isinstance(document, str) else {"image": "uploaded"}
