"""Health and metrics, for whatever watches the gateway: no key needed, and none of it is part of the API."""

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tritonclip_server.gateway.http.draining import Drain
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.responses.json_responses import json_response
from tritonclip_server.gateway.responses.response_models import HealthResponse
from tritonclip_server.gateway.routes.common import models_of

STOPPING = "the gateway is stopping"
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": HealthResponse}}

router = APIRouter(tags=["operations"])


@router.get("/v1/health/live", response_model=HealthResponse)
@router.get("/health/live", response_model=HealthResponse)
async def live() -> Response:
    """Whether this process answers. /v1/health/live is the same, as NVIDIA's microservices have it."""
    return json_response({"status": "live"})


@router.get("/health", response_model=HealthResponse, responses=NOT_READY)
@router.get("/v1/health", response_model=HealthResponse, responses=NOT_READY)
@router.get("/v1/health/ready", response_model=HealthResponse, responses=NOT_READY)
@router.get("/health/ready", response_model=HealthResponse, responses=NOT_READY)
async def ready(request: Request, model: str | None = None) -> Response:
    """Whether a model answers rightly: a stored image and sentence are embedded and compared.

    With several models one that is ready is enough, and `models` has each; `model` asks for one of them alone. /health
    is the same, as infinity, text-embeddings-inference and vLLM have it, and /v1/health/ready as NVIDIA does.
    """
    if model is not None:
        problem = await problem_of(request, model)
        return json_response(_verdict(problem), 200 if problem is None else 503)
    if _is_stopping(request):
        return json_response(_verdict(STOPPING), 503)
    verdicts = await models_of(request).readiness()
    named = [{"id": service.model.name} | _verdict(problem) for service, problem in verdicts if service.model.name]
    problems = [problem for _, problem in verdicts if problem is not None]
    is_ready = len(problems) < len(verdicts)
    answer = _verdict(None if is_ready else problems[0]) | ({"models": named} if named else {})
    return json_response(answer, 200 if is_ready else 503)


async def problem_of(request: Request, name: str | None) -> str | None:
    """What keeps the model of a name, or the default one, from being asked; None where nothing does."""
    if _is_stopping(request):
        return STOPPING
    service = await models_of(request).find(None, name)
    return await service.readiness.problem()


def _verdict(problem: str | None) -> dict[str, str]:
    return {"status": "ready"} if problem is None else {"status": "not ready", "detail": problem}


def _is_stopping(request: Request) -> bool:
    drain: Drain = request.app.state.drain
    return drain.stopping


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    counters: Metrics = request.app.state.metrics
    return Response(counters.render(), media_type=CONTENT_TYPE_LATEST)
