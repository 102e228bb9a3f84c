"""`POST /v1/search`: the images of an index that are nearest to a text, an image, a vector or another row."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from tritonclip_server.gateway.openapi import ERRORS, described
from tritonclip_server.gateway.parsing.body import read_request
from tritonclip_server.gateway.parsing.search_request import DEFAULT_RESULTS, SearchRequest
from tritonclip_server.gateway.responses.json_responses import json_list, large_response
from tritonclip_server.gateway.responses.response_models import ErrorResponse
from tritonclip_server.gateway.responses.search_models import SearchResponse
from tritonclip_server.gateway.routes.common import (
    chosen,
    context_for,
    index_of,
    indexes_of,
    limits_of,
    models_of,
    usage,
)
from tritonclip_server.gateway.search.indexes import ServedIndex
from tritonclip_server.gateway.search.queries import Query, check_parts, query_of

if TYPE_CHECKING:
    from tritonclip.search import Hit, SearchResults

RESULT_BYTES = 1024  # of one with its metadata, about
MISMATCH: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorResponse, "description": "The index has vectors of another model than is deployed"}
}

router = APIRouter(tags=["search"])


@router.post(
    "/v1/search", response_model=SearchResponse, **(described(SearchRequest) | {"responses": ERRORS | MISMATCH})
)
async def search(request: Request) -> Response:
    """Find the images of an index that are nearest to what is looked for, best first.

    That is a `text`, an `image` or both, mixed by `weights` and less what the texts of `minus` say; or a `vector`; or
    what is `like` a row, by its id. `filter` is a condition of SQL over the index's columns. A `score` is the cosine,
    -1 to 1. `thumbnail` is a path on this gateway, null where the index has no thumbnails. `exact` says whether every
    row was looked at, and `rows` how many the index has.
    Of several models the one that made the index's vectors is asked, unless `model` names another.
    """
    indexes, limits = indexes_of(request), limits_of(request)
    asked = await read_request(request, SearchRequest, limits)
    served = index_of(request, asked.index)
    check_parts(asked)
    context = context_for(request)
    if asked.like is None:
        if asked.model is None:
            service, manifest = await models_of(request).choose_by_fingerprint(context, served.opened.fingerprint)
        else:
            service, manifest = await chosen(request, asked.model)
        served.check_model(manifest)
        query = await query_of(service, context, manifest, asked, limits)
        results = await indexes.ask(context, lambda: _nearest(served, asked, query))
    else:
        if asked.model is not None:
            await chosen(request, asked.model)
        query = Query.none()
        results = await indexes.ask(context, lambda: _alike(served, asked), param="like")
    with_metadata = asked.include is None or "metadata" in asked.include

    def answer() -> dict[str, Any]:
        return {
            "object": "list",
            "index": served.name,
            "model": served.model,
            "data": json_list(
                {"object": "search.result", "score": hit.score} | described_row(served, hit, with_metadata)
                for hit in results.hits
            ),
            "exact": results.exact,
            "rows": results.rows,
            "usage": usage(query.tokens, query.images),
            **({"query_truncated": True} if query.truncated else {}),
        }

    return await large_response(answer, len(results.hits) * RESULT_BYTES)


def _nearest(served: ServedIndex, asked: SearchRequest, query: Query) -> "SearchResults":
    return served.index.search(vector=query.vector, top_k=asked.top_k or DEFAULT_RESULTS, where=asked.filter)


def _alike(served: ServedIndex, asked: SearchRequest) -> "SearchResults":
    return served.index.like(asked.like or "", top_k=asked.top_k or DEFAULT_RESULTS, where=asked.filter)


def described_row(served: ServedIndex, hit: "Hit", with_metadata: bool) -> dict[str, Any]:
    """A row of an index, as answers have it."""
    thumbnail = f"/v1/indexes/{quote(served.name)}/thumbnails/{hit.id}" if served.opened.thumbnails else None
    metadata = {"metadata": hit.metadata} if with_metadata else {}
    return {"id": hit.id, "uri": hit.uri, **metadata, "thumbnail": thumbnail}
