"""One gateway, put together: the middleware around the routes, and what they share."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from tritonclip import TritonClipError, __version__
from tritonclip_server.gateway.access.keys import KeyStore
from tritonclip_server.gateway.access.policy import split_path
from tritonclip_server.gateway.access.rate_limit import RateLimiter
from tritonclip_server.gateway.admission.byte_budget import ByteBudget
from tritonclip_server.gateway.admission.fair_semaphore import QueueLimits
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.fetching.url_fetcher import UrlFetcher
from tritonclip_server.gateway.http.access_middleware import AccessMiddleware
from tritonclip_server.gateway.http.cors import CorsMiddleware
from tritonclip_server.gateway.http.draining import Drain
from tritonclip_server.gateway.http.error_middleware import ErrorMiddleware
from tritonclip_server.gateway.http.paths import HeadMiddleware, PathMiddleware
from tritonclip_server.gateway.http.request_context import context_of
from tritonclip_server.gateway.inference.engine import Engine
from tritonclip_server.gateway.inference.readiness import Readiness
from tritonclip_server.gateway.inference.service import Service
from tritonclip_server.gateway.logs import trace
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.openapi import complete
from tritonclip_server.gateway.responses.json_responses import error_response
from tritonclip_server.gateway.routes import (
    classify,
    cohere,
    embeddings,
    health,
    indexes,
    models,
    nim,
    page,
    rerank,
    search,
    similarity,
    tei,
    vllm,
    voyage,
    weaviate,
)
from tritonclip_server.gateway.search.indexes import Indexes
from tritonclip_server.gateway.settings import Settings

if TYPE_CHECKING:
    from tritonclip.search import Index

log = logging.getLogger("gateway")

MODULES = (
    embeddings, similarity, classify, rerank, search, indexes, cohere, voyage, vllm, nim, tei, weaviate, models, health,
    page,
)  # fmt: skip
ROUTERS = tuple(module.router for module in MODULES)
REFRESH_SECONDS = 5.0  # how soon a model that is exchanged behind the gateway is noticed
DESCRIPTION = "OpenCLIP embeddings, similarity and zero-shot labels, in the shapes of APIs that programs know already."


def create_app(
    engine: Engine,
    settings: Settings,
    *,
    indexes: "Mapping[str, Index] | None" = None,
    fetcher: UrlFetcher | None = None,
) -> FastAPI:
    """The gateway as an ASGI application over an engine and indexes by their names, which it closes when it ends.

    `fetcher` replaces the one that the settings ask for, in tests.
    """
    metrics, rate_limiter, drain = Metrics(), RateLimiter(), Drain()
    if fetcher is None and settings.url_images is not None:
        fetcher = UrlFetcher(settings.url_images, settings.limits.image_bytes)
    service = Service(engine, settings, metrics=metrics, rate_limiter=rate_limiter, fetcher=fetcher)
    served = Indexes(indexes or {}, settings.limits, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_watch(service, served)), asyncio.create_task(served.warm())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        served.close()
        if fetcher is not None:
            await fetcher.aclose()
        await engine.aclose()

    app = FastAPI(
        title="tritonclip gateway",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # the route is ours (routes.page), and makes the document in a thread
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would lose keys and bodies; paths are tidied instead
        exception_handlers={HTTPException: _no_such_route},
    )
    app.openapi = lambda: complete(app)  # type: ignore[method-assign]
    app.state.service, app.state.indexes, app.state.metrics, app.state.drain = service, served, metrics, drain
    app.state.readiness = Readiness(service, drain=drain)
    for router in ROUTERS:
        app.include_router(router)
    limits = settings.limits
    budget = ByteBudget(
        limit=limits.bytes_in_flight,
        share=limits.bytes_in_flight_per_key,
        body=limits.body_bytes,
        bounds=QueueLimits(limits.waiting, limits.waiting_seconds),
        metrics=metrics,
    )
    keys = KeyStore(settings.keys) if settings.keys is not None else None
    app.add_middleware(HeadMiddleware)
    app.add_middleware(
        AccessMiddleware, settings=settings, keys=keys, rate_limiter=rate_limiter, budget=budget, drain=drain
    )
    app.add_middleware(CorsMiddleware, origins=settings.origins)
    app.add_middleware(
        ErrorMiddleware,
        metrics=metrics,
        seconds=limits.seconds,
        fingerprint=lambda: service.fingerprint,
        endpoint_of=endpoint_of,
        drain=drain,
    )
    app.add_middleware(PathMiddleware)  # the last added is the outermost
    return app


def endpoint_of(scope: Scope) -> str:
    """The route of a request, as metrics and the log name it; what leads nowhere shares one name.

    A request that was refused before it reached the router is matched here.
    """
    route = scope.get("route")
    if route is None:
        routes = (route for router in ROUTERS for route in router.routes)
        route = next((route for route in routes if route.matches(scope)[0] is not Match.NONE), None)
    path: str = getattr(route, "path_format", "unknown")  # "{model}", whatever it may hold
    return path


def _meant(scope: Scope) -> str | None:
    """The path that a program asks for whose base URL has a /v1 too many, or too few."""
    path = split_path(scope)[1]
    for meant in (path.removeprefix("/v1"), path.removeprefix("/v2"), f"/v1{path}"):
        if meant != path and endpoint_of({**scope, "path": meant, "root_path": "", "route": None}) != "unknown":
            return meant
    return None


async def _watch(service: Service, indexes: Indexes) -> None:
    """Keep what is known of the model fresh: its fingerprint labels every answer, and the text cache goes by it.

    So do indexes: the log says which of them are of another model.
    """
    unexpected: type[Exception] | None = None
    while True:
        try:
            indexes.notice(await service.manifest(refresh=True))
            unexpected = None
        except TritonClipError:  # requests find out by themselves
            unexpected = None
        except Exception as error:  # whatever it is: without this the gateway would never notice another model
            if unexpected is not type(error):
                log.error("the model's manifest cannot be read; this is tried again\n%s", trace(error))
            unexpected = type(error)
        await asyncio.sleep(REFRESH_SECONDS)


async def _no_such_route(request: Request, error: HTTPException) -> Response:
    """What the router itself refuses."""
    if error.status_code == 405:
        refusal = ApiError("method_not_allowed", f"{request.url.path} does not take {request.method}")
    else:
        path = request.url.path
        there_is = _meant(request.scope)
        hint = f"; there is {there_is}, so the base URL is another" if there_is else ""
        refusal = ApiError("not_found", f"there is no {path} here{hint}; /openapi.json has what there is")
    context_of(request.scope).code = refusal.code
    answer = error_response(refusal)
    answer.headers.update(error.headers or {})
    return answer
