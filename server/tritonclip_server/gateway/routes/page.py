"""The page to play with: four files, served as they are; and the OpenAPI document, for programs."""

import asyncio

from fastapi import APIRouter, Request, Response
from starlette.responses import FileResponse

from tritonclip_server.gateway.responses.json_responses import json_response
from tritonclip_server.resources import PACKAGE

FOLDER = PACKAGE / "gateway" / "page"
# Everything comes from this server; images that the visitor chose exist in the browser alone.
POLICY = "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "cache-control": "no-cache"}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index() -> Response:
    """The page."""
    return FileResponse(FOLDER / "index.html", headers=HEADERS)


@router.get("/page.css")
async def style() -> Response:
    """How it looks."""
    return FileResponse(FOLDER / "page.css", headers=HEADERS)


@router.get("/page.js")
async def script() -> Response:
    """What it does."""
    return FileResponse(FOLDER / "page.js", headers=HEADERS)


@router.get("/search.js")
async def search_script() -> Response:
    """What its search does."""
    return FileResponse(FOLDER / "search.js", headers=HEADERS)


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """What the API takes and answers. It is made when it is first asked for, which takes a tenth of a second."""
    made = await asyncio.to_thread(request.app.openapi)
    root: str = request.scope.get("root_path", "").rstrip("/")  # where another application mounts this one
    return json_response(made | ({"servers": [{"url": root}]} if root else {}))
