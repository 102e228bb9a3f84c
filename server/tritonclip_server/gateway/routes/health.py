"""Health and metrics, for whatever watches the gateway: no key needed, and none of it is part of the API."""

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tritonclip_server.gateway.answers import json_answer
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.readiness import Readiness
from tritonclip_server.gateway.replies import HealthReply

NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": HealthReply}}

router = APIRouter(tags=["operations"])


@router.get("/v1/health/live", response_model=HealthReply)
@router.get("/health/live", response_model=HealthReply)
async def live() -> Response:
    """Whether this process answers. /v1/health/live is the same, as NVIDIA's microservices have it."""
    return json_answer({"status": "live"})


@router.get("/health", response_model=HealthReply, responses=NOT_READY)
@router.get("/v1/health", response_model=HealthReply, responses=NOT_READY)
@router.get("/v1/health/ready", response_model=HealthReply, responses=NOT_READY)
@router.get("/health/ready", response_model=HealthReply, responses=NOT_READY)
async def ready(request: Request) -> Response:
    """Whether the model answers rightly: a stored image and sentence are embedded and compared.

    /health is the same, as infinity, text-embeddings-inference and vLLM have it, and /v1/health/ready as NVIDIA does.
    """
    readiness: Readiness = request.app.state.readiness
    problem = await readiness.problem()
    if problem is None:
        return json_answer({"status": "ready"})
    return json_answer({"status": "not ready", "detail": problem}, 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    counters: Metrics = request.app.state.metrics
    return Response(counters.render(), media_type=CONTENT_TYPE_LATEST)
