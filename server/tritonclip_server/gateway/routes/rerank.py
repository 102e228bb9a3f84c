"""`POST /v1/rerank`, Cohere's and Jina's: documents by how well they fit a query, texts and images alike."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from tritonclip_server.gateway.content.items import BadItem, document_items, mixed_item, refuse_json
from tritonclip_server.gateway.content.truncation import check_most_tokens, truncated_field
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.inference.scores import cosines
from tritonclip_server.gateway.openapi import described
from tritonclip_server.gateway.parsing.body import read_one_of
from tritonclip_server.gateway.parsing.request_models import RerankRequest
from tritonclip_server.gateway.responses.json_responses import LABEL_BYTES, json_list, large_response
from tritonclip_server.gateway.responses.response_models import RerankResponse
from tritonclip_server.gateway.routes import tei
from tritonclip_server.gateway.routes.common import chosen, context_for, errors_field, limits_of, made_of, usage
from tritonclip_server.gateway.routes.tei import TeiRank, TeiRerankRequest
from tritonclip_server.gateway.threads import LARGE_BYTES

router = APIRouter(tags=["API"])


@router.post("/rerank", response_model=RerankResponse | list[TeiRank], **described(RerankRequest, TeiRerankRequest))
@router.post("/v1/rerank", response_model=RerankResponse, **described(RerankRequest))
@router.post("/v2/rerank", response_model=RerankResponse, **described(RerankRequest))
async def rerank(request: Request) -> Response:
    """Rank documents, each a text or an image, by their cosine with the query, a text or an image.

    Cosines of texts with texts are larger than those of texts with images: rank documents of one kind at a time.
    /v2/rerank is the same, for Cohere's newer client, and /rerank for infinity's and vLLM's; a request with `texts`
    instead of `documents` is one of text-embeddings-inference, and answered as that does. With `"partial": true`
    documents that fail are left out of `results` and named in `errors`. Documents that are longer than the model reads
    are cut and listed in `truncated`, and for a query that is, `query_truncated` is true; or they are refused, as
    `truncate` says.
    """
    limits = limits_of(request)
    asked = await read_one_of(request, RerankRequest, {"texts": TeiRerankRequest}, limits)
    if isinstance(asked, TeiRerankRequest):
        return await tei.rank(request, asked)
    service, manifest = await chosen(request, asked.model)
    for name in ("max_tokens_per_doc", "max_tokens_per_query", "max_doc_length", "max_query_length"):
        check_most_tokens(getattr(asked, name), manifest, name)
    top_n = _top_n(asked)
    if asked.query is None:
        raise ApiError("missing_field", "give a query", param="query")
    refuse_json(asked.query, "query", limits, 'there is one query; say {"text": …} for the characters themselves')
    query = mixed_item(asked.query, "query", limits)
    documents = await made_of(asked.documents, lambda: document_items(asked.documents, "documents", limits))
    if isinstance(query, BadItem):
        raise query.error
    context = context_for(request)
    vectors = await service.embed(
        context, manifest, [query, *documents], field="documents", partial=asked.partial, truncate=asked.truncating()
    )
    if 0 in vectors.errors:
        raise vectors.errors[0]
    errors = {position - 1: error for position, error in vectors.errors.items()}
    scores = cosines(vectors, 1)[0]
    order = [int(index) for index in np.argsort(-scores, kind="stable") if index not in errors]
    path: str = request.scope["route"].path
    version = "2" if path == "/v2/rerank" else "1"
    given = asked.documents if isinstance(asked.documents, list) else [asked.documents]

    def answer() -> dict[str, Any]:
        ranked = [(index, {"index": index, "relevance_score": float(scores[index])}) for index in order[:top_n]]
        return {
            "id": context.request_id,
            "object": "rerank",
            "model": service.model.id_of(manifest),
            "results": json_list(
                entry | ({"document": _shown(given[index])} if asked.return_documents else {})
                for index, entry in ranked
            ),
            # Voyage's clients read this instead, and need not send anything that tells them from Cohere's and Jina's.
            **({"data": json_list(entry for _, entry in ranked)} if path == "/v1/rerank" else {}),
            "meta": {"api_version": {"version": version}, "billed_units": {"search_units": 1}},
            "usage": usage(vectors.tokens, vectors.images),
            **truncated_field(vectors.truncated, first=1),
            **({"query_truncated": True} if 0 in vectors.truncated else {}),
            **errors_field(errors),
        }

    echoed = sum(map(_size, given)) if asked.return_documents else 0
    return await large_response(answer, len(order[:top_n]) * LABEL_BYTES + echoed)


def _top_n(asked: RerankRequest) -> int | None:
    """How many results are wanted, by either of its names."""
    if asked.top_n is not None and asked.top_k is not None and asked.top_n != asked.top_k:
        raise ApiError("invalid_value", "another name for top_n, which says otherwise", param="top_k")
    return asked.top_k if asked.top_n is None else asked.top_n


def _size(document: Any) -> int:
    """About how many characters a document has that comes back."""
    if not isinstance(document, dict):
        return len(document) if isinstance(document, str) else 0
    # What lies deeper is the caller's own, and may be as large as a body.
    return sum(len(value) if isinstance(value, str) else LARGE_BYTES for value in document.values())


def _shown(document: Any) -> dict[str, Any]:
    """A document as it comes back: a text under "text", an image as it was given, an upload as what it was."""
    if isinstance(document, dict):
        return document
    return {"text": document} if isinstance(document, str) else {"image": "uploaded"}
