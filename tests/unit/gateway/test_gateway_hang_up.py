"""A caller whose connection is gone when its answer is written: counted and logged, but no error of ours."""

import asyncio
import logging

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.http.error_middleware import ErrorMiddleware
from tritonclip_server.gateway.metrics import Metrics


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    raise ApiError("overloaded", "try again")


async def receive() -> Message:
    return {"type": "http.disconnect"}


@pytest.mark.parametrize(("app", "status"), [(answer, "499"), (refuse, "429")])
@pytest.mark.parametrize("error", [RuntimeError("the handler is closed"), BrokenPipeError()])
def test_a_broken_connection_is_a_hang_up(
    app: ASGIApp, status: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """uvloop raises a RuntimeError for a closed connection, others an OSError."""
    metrics = Metrics()
    middleware = ErrorMiddleware(
        app, metrics=metrics, seconds=1.0, fingerprint=lambda _: None, endpoint_of=lambda scope: "/v1/embeddings"
    )

    async def send(message: Message) -> None:
        raise error

    with caplog.at_level(logging.INFO):
        asyncio.run(middleware({"type": "http", "method": "POST", "headers": []}, receive, send))
    (record,) = caplog.records
    assert (record.levelname, f"status={status}" in record.getMessage()) == ("INFO", True)
    labels = {"endpoint": "/v1/embeddings", "status": status, "model": ""}
    assert metrics.registry.get_sample_value("tritonclip_gateway_requests_total", labels) == 1
