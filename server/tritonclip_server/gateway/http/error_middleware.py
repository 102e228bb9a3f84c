"""An id, a trace, headers and metrics for each request; whatever is raised becomes a response and a line of the log."""

import contextlib
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonclip_server.gateway.access.policy import is_open
from tritonclip_server.gateway.errors import ClientGone, translate
from tritonclip_server.gateway.http.draining import Drain
from tritonclip_server.gateway.http.request_context import RequestContext, open_context
from tritonclip_server.gateway.http.request_log import attributes_of, known_method, line_of, log_failure
from tritonclip_server.gateway.http.timeline import ANSWER
from tritonclip_server.gateway.logs import RequestLog, forget_frames
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.responses.error_formats import error_format_of
from tritonclip_server.gateway.responses.json_responses import error_response

if TYPE_CHECKING:
    from tritonclip_server.gateway.spans import Tracer

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
        fingerprint: Callable[[RequestContext], str | None],
        endpoint_of: EndpointOf,
        drain: Drain | None = None,
        tracer: "Tracer | None" = None,
        request_log: RequestLog | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._seconds = seconds
        self._fingerprint = fingerprint
        self._endpoint_of = endpoint_of
        self._drain = drain or Drain()
        self._tracer = tracer
        self._request_log = request_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = open_context(scope, self._seconds)
        if self._tracer is not None and not is_open(scope):  # what watches the gateway would fill the traces
            context.trace = self._tracer.begin(known_method(scope["method"]), context.request_headers)

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
            self._tell(context, scope, failed)
            if failed is not None:
                forget_frames(failed)

    def _tell(self, context: RequestContext, scope: Scope, failed: Exception | None) -> None:
        """Count a request that has ended, and tell of it whoever is to hear."""
        method, endpoint, status = scope["method"], self._endpoint_of(scope), context.status or 499
        stages = context.timeline.end()
        seconds = time.perf_counter() - context.timeline.started
        self._metrics.requests.labels(endpoint, str(status), context.model or "").inc()
        self._metrics.seconds.labels(endpoint).observe(seconds)
        if status >= 400:
            log_failure(context, method=method, endpoint=endpoint, status=status, seconds=seconds, error=failed)
        if self._request_log is not None:
            line = line_of(context, method=method, endpoint=endpoint, status=status, seconds=seconds, stages=stages)
            self._request_log.write(line)
        context.trace.end(
            lambda: attributes_of(context, endpoint=endpoint, status=status), answer_seconds=stages[ANSWER]
        )

    def _answer_headers(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        headers = context.headers | {"x-request-id": context.request_id}
        fingerprint = self._fingerprint(context)
        if fingerprint and _FINGERPRINT.fullmatch(fingerprint):
            headers["x-model-fingerprint"] = fingerprint
        if not context.body_is_read or self._drain.stopping:
            headers["connection"] = "close"
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
