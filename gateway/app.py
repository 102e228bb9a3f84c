"""One gateway, put together: the middleware around the routes, and what they share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from gateway.answers import error_answer
from gateway.engine import Engine
from gateway.errors import ApiError
from gateway.keys import KeyRing
from gateway.metrics import Metrics
from gateway.middleware import Doorkeeper, Envelope
from gateway.openapi import complete
from gateway.rates import RateLimiter
from gateway.readiness import Readiness
from gateway.routes import classify, embeddings, health, models, page, rerank, similarity
from gateway.service import Service
from gateway.settings import Settings
from gateway.urls import Fetcher
from tritonclip import TritonClipError, __version__

REFRESH_SECONDS = 5.0  # how soon a model that is exchanged behind the gateway is noticed
DESCRIPTION = "OpenCLIP embeddings, similarity and zero-shot labels, in the shapes of APIs that programs know already."


def create_app(engine: Engine, settings: Settings, *, fetcher: Fetcher | None = None) -> FastAPI:
    """The gateway as an ASGI application over an engine, which it closes when it ends.

    `fetcher` replaces the one that the settings ask for, in tests.
    """
    metrics, rates = Metrics(), RateLimiter()
    if fetcher is None and settings.url_images is not None:
        fetcher = Fetcher(settings.url_images, settings.limits.image_bytes)
    service = Service(engine, settings, metrics=metrics, rates=rates, fetcher=fetcher)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(_watch(service))
        yield
        watch.cancel()
        if fetcher is not None:
            await fetcher.aclose()
        await engine.aclose()

    app = FastAPI(
        title="tritonclip gateway",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere; the document itself is at /openapi.json
        redoc_url=None,
        exception_handlers={HTTPException: _no_such_route},
    )
    app.openapi = lambda: complete(app)  # type: ignore[method-assign]
    app.state.service, app.state.metrics, app.state.readiness = service, metrics, Readiness(service)
    for module in (embeddings, similarity, classify, rerank, models, health, page):
        app.include_router(module.router)
    keys = KeyRing(settings.keys) if settings.keys is not None else None
    app.add_middleware(Doorkeeper, limits=settings.limits, keys=keys, rates=rates)
    app.add_middleware(
        Envelope,
        metrics=metrics,
        seconds=settings.limits.seconds,
        fingerprint=lambda: service.fingerprint,
        endpoint_of=endpoint_of,
    )
    return app


def endpoint_of(scope: Scope) -> str:
    """The route that a request went to, as metrics name it; what leads nowhere shares one name."""
    return getattr(scope.get("route"), "path", "unknown")


async def _watch(service: Service) -> None:
    """Keep what is known of the model fresh: its fingerprint labels every answer, and the text cache goes by it."""
    while True:
        with contextlib.suppress(TritonClipError):  # requests find out by themselves
            await service.manifest(refresh=True)
        await asyncio.sleep(REFRESH_SECONDS)


async def _no_such_route(request: Request, error: HTTPException) -> Response:
    """What the router itself refuses."""
    if error.status_code == 405:
        refusal = ApiError("method_not_allowed", f"{request.url.path} does not take {request.method}")
    else:
        refusal = ApiError("not_found", f"there is no {request.url.path} here; /openapi.json has what there is")
    answer = error_answer(refusal)
    answer.headers.update(error.headers or {})
    return answer
