"""One gateway, put together: the middleware around the routes, and what they share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from tritonclip import __version__
from tritonclip_server.gateway.access.keys import KeyStore
from tritonclip_server.gateway.access.policy import split_path
from tritonclip_server.gateway.access.rate_limit import RateLimiter
from tritonclip_server.gateway.admission.byte_budget import ByteBudget
from tritonclip_server.gateway.admission.fair_semaphore import QueueLimits
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.fetching.url_fetcher import UrlFetcher
from tritonclip_server.gateway.fetching.url_loader import UrlLoader
from tritonclip_server.gateway.http.access_middleware import AccessMiddleware
from tritonclip_server.gateway.http.cors import CorsMiddleware
from tritonclip_server.gateway.http.draining import Drain
from tritonclip_server.gateway.http.error_middleware import ErrorMiddleware
from tritonclip_server.gateway.http.paths import HeadMiddleware, PathMiddleware
from tritonclip_server.gateway.http.request_context import context_of
from tritonclip_server.gateway.inference.engine import Engine
from tritonclip_server.gateway.inference.models import Models
from tritonclip_server.gateway.inference.served_model import ServedModel
from tritonclip_server.gateway.inference.service import Service
from tritonclip_server.gateway.logs import RequestLog
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
from tritonclip_server.gateway.settings import Settings, UrlImages

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

    from tritonclip.search import Index
    from tritonclip_server.gateway.spans import Tracer

MODULES = (
    embeddings, similarity, classify, rerank, search, indexes, cohere, voyage, vllm, nim, tei, weaviate, models, health,
    page,
)  # fmt: skip
ROUTERS = tuple(module.router for module in MODULES)
# FastAPI's own spans and records, which an environment may ask for, have paths, queries and the words of errors.
NO_TELEMETRY: "TelemetryConfig" = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
DESCRIPTION = "OpenCLIP embeddings, similarity and zero-shot labels, in the shapes of APIs that programs know already."


def create_app(
    engines: Engine | Mapping[str, Engine],
    settings: Settings,
    *,
    indexes: "Mapping[str, Index] | None" = None,
    fetcher: UrlFetcher | None = None,
    tracer: "Tracer | None" = None,
    request_log: RequestLog | None = None,
) -> FastAPI:
    """The gateway as an ASGI application over engines and indexes by their names, which it closes when it ends.

    So it does with the tracer, which makes a span of each request, and the request log, which has a line of each. The
    first engine's model is the default one. A lone engine needs no name: its model goes by its variant. `fetcher`
    replaces the one that the settings ask for, in tests.
    """
    metrics, rate_limiter, drain = Metrics(), RateLimiter(), Drain()
    if fetcher is None and settings.url_images is not None:
        fetcher = UrlFetcher(settings.url_images, settings.limits.image_bytes)
    limits = settings.limits
    url_loader = UrlLoader(fetcher, settings.url_images or UrlImages(), limits.body_bytes)
    named = engines if isinstance(engines, Mapping) else {"": engines}
    models = [ServedModel(engine, metrics, name) for name, engine in named.items()]
    services = [
        Service(model, limits, metrics=metrics, rate_limiter=rate_limiter, url_loader=url_loader) for model in models
    ]
    served_models, served = Models(services, settings.aliases), Indexes(indexes or {}, limits, metrics)

    def notice() -> None:
        served.notice([model.known for model in models])

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        works = [*(model.keep_fresh(notice) for model in models), served.warm()]
        tasks = [asyncio.create_task(work) for work in works]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        served.close()
        if fetcher is not None:
            await fetcher.aclose()
        for model in models:
            await model.engine.aclose()
        if request_log is not None:
            request_log.close()
        if tracer is not None:
            await asyncio.to_thread(tracer.close)

    app = FastAPI(
        title="tritonclip gateway",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # the route is ours (routes.page), and makes the document in a thread
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        telemetry=NO_TELEMETRY,
        redirect_slashes=False,  # a redirect would lose keys and bodies; paths are tidied instead
        exception_handlers={HTTPException: _no_such_route},
    )
    app.openapi = lambda: complete(app)  # type: ignore[method-assign]
    app.state.models, app.state.indexes, app.state.settings = served_models, served, settings
    app.state.metrics, app.state.drain = metrics, drain
    for router in ROUTERS:
        app.include_router(router)
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
        fingerprint=served_models.fingerprint_of,
        endpoint_of=endpoint_of,
        drain=drain,
        tracer=tracer,
        request_log=request_log,
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
