"""`GET /v1/indexes`: what can be searched, some of its rows, and their thumbnails."""

import hashlib
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.openapi import ERRORS
from tritonclip_server.gateway.responses.json_responses import json_response
from tritonclip_server.gateway.responses.search_models import IndexesResponse, IndexResponse, SamplesResponse
from tritonclip_server.gateway.routes.common import context_for, index_of, indexes_of, may_search, models_of
from tritonclip_server.gateway.routes.search import described_row
from tritonclip_server.gateway.search.indexes import ServedIndex

if TYPE_CHECKING:
    from tritonclip.search import IndexInfo

SAMPLES = 8
# A thumbnail is as private as the key that opens it. An image that is added anew has another one at the same path.
CACHED = "private, max-age=300"

router = APIRouter(tags=["search"], responses=ERRORS)


@router.get("/v1/indexes", response_model=IndexesResponse)
async def indexes(request: Request) -> Response:
    """The indexes that a key may search: how many rows they have, of which model, and with which columns."""
    served = [each for each in indexes_of(request).served if may_search(request, each)]
    return json_response({"object": "list", "data": [await _described(request, each) for each in served]})


@router.get("/v1/indexes/{name}", response_model=IndexResponse)
async def index(request: Request, name: str) -> Response:
    """One index. `matches_model` says whether a deployed model made its vectors, null while that is not known."""
    return json_response(await _described(request, index_of(request, name)))


@router.get("/v1/indexes/{name}/samples", response_model=SamplesResponse)
async def samples(request: Request, name: str) -> Response:
    """Eight rows from all over an index, the same each time: something to begin with."""
    indexes = indexes_of(request)
    served = index_of(request, name)
    hits = await indexes.ask(context_for(request), lambda: served.index.sample(SAMPLES))
    rows = [{"object": "index.row", **described_row(served, hit, with_metadata=True)} for hit in hits]
    return json_response({"object": "list", "index": served.name, "data": rows})


@router.get(
    "/v1/indexes/{name}/thumbnails/{row}",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "The caller has it already"}},
)
async def thumbnail(request: Request, name: str, row: str) -> Response:
    """The thumbnail of a row, by its id: a JPEG of 128 pixels at most a side."""
    indexes = indexes_of(request)
    served = index_of(request, name)
    content = await indexes.ask(context_for(request), lambda: served.index.thumbnail(row), param="id")
    if content is None:
        raise ApiError("not_found", "this row has no thumbnail", param="id")
    tag = f'"{hashlib.blake2b(content, digest_size=10).hexdigest()}"'
    headers = {"etag": tag, "cache-control": CACHED, "x-content-type-options": "nosniff"}
    if _has(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/jpeg", headers=headers)


async def _described(request: Request, served: ServedIndex) -> dict[str, Any]:
    info: IndexInfo = await indexes_of(request).ask(context_for(request), served.index.info)
    return {
        "id": served.name,
        "object": "index",
        "rows": info.rows,
        "width": info.width,
        "precision": info.precision,
        "variant": info.variant,
        "fingerprint": info.fingerprint,
        "matches_model": served.is_of_one(models_of(request).known),
        "thumbnails": info.thumbnails,
        "columns": list(info.columns),
    }


def _has(request: Request, tag: str) -> bool:
    """Whether the caller has what has this tag: it says so in If-None-Match."""
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in given.split(","))
