"""Health and metrics, for whatever watches the gateway: no key needed, and none of it is part of the API."""

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tritonclip_server.gateway.inference.readiness import Readiness
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.responses.json_responses import json_response
from tritonclip_server.gateway.responses.response_models import HealthResponse

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
async def ready(request: Request) -> Response:
    """Whether the model answers rightly: a stored image and sentence are embedded and compared.

    /health is the same, as infinity, text-embeddings-inference and vLLM have it, and /v1/health/ready as NVIDIA does.
    """
    readiness: Readiness = request.app.state.readiness
    problem = await readiness.problem()
    if problem is None:
        return json_response({"status": "ready"})
    return json_response({"status": "not ready", "detail": problem}, 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    counters: Metrics = request.app.state.metrics
    return Response(counters.render(), media_type=CONTENT_TYPE_LATEST)
