"""An id, headers and metrics for every request; whatever is raised inside becomes a response and a line of the log."""

import contextlib
import re
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonclip_server.gateway.errors import ClientGone, translate
from tritonclip_server.gateway.http.draining import Drain
from tritonclip_server.gateway.http.request_context import RequestContext, open_context
from tritonclip_server.gateway.http.request_log import log_failure
from tritonclip_server.gateway.logs import forget_frames
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.responses.error_formats import error_format_of
from tritonclip_server.gateway.responses.json_responses import error_response

_FINGERPRINT = re.compile(r"[!-~]{1,128}")

EndpointOf = Callable[[Scope], str]


class ErrorMiddleware:
    """Names each request, counts it, and turns what is raised into an error as its clients read it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        seconds: float,
        fingerprint: Callable[[], str | None],
        endpoint_of: EndpointOf,
        drain: Drain | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._seconds = seconds
        self._fingerprint = fingerprint
        self._endpoint_of = endpoint_of
        self._drain = drain or Drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        context = open_context(scope, self._seconds)

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"] = [*message["headers"], *self._answer_headers(context)]
            try:
                await send(message)
            except (OSError, RuntimeError) as error:  # uvloop's for a connection that is closed is a RuntimeError
                raise ClientGone from error

        failed: Exception | None = None
        try:
            await self._app(scope, receive, send_named)
        except ClientGone as error:
            context.status, context.code = 499, "cancelled"
            forget_frames(error)
        except Exception as error:
            failed = refusal = translate(error)
            context.code = refusal.code
            self._metrics.rejections.labels(refusal.code).inc()
            if context.status is None:
                error_format = context.error_format or error_format_of(scope["method"], self._endpoint_of(scope))
                with contextlib.suppress(ClientGone):
                    await error_response(refusal, error_format)(scope, receive, send_named)
        finally:
            status, endpoint, seconds = context.status or 499, self._endpoint_of(scope), time.perf_counter() - started
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(seconds)
            if status >= 400:
                log_failure(
                    context, method=scope["method"], endpoint=endpoint, status=status, seconds=seconds, error=failed
                )
            if failed is not None:
                forget_frames(failed)

    def _answer_headers(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        headers = context.headers | {"x-request-id": context.request_id}
        fingerprint = self._fingerprint()
        if fingerprint and _FINGERPRINT.fullmatch(fingerprint):
            headers["x-model-fingerprint"] = fingerprint
        if not context.body_is_read or self._drain.stopping:
            headers["connection"] = "close"
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
