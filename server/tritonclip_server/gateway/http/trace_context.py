"""The trace that a request is part of: https://www.w3.org/TR/trace-context/, and what of it the model server is told.

A gateway without OpenTelemetry passes the caller's `traceparent` and `tracestate` on as they came. With it, the spans
of `gateway.spans` stand between, and calls of the model server are below theirs.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from tritonclip import ConfigError

if TYPE_CHECKING:
    from tritonclip_server.gateway.spans import Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
DISABLED = "OTEL_SDK_DISABLED"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
PROTOCOL_OF_TRACES = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
SPOKEN = "http/protobuf"

_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})")
_STATE = re.compile(r"[ -~]{1,512}")
_SAMPLED = 1  # the bit of the flags


class Trace(Protocol):
    """A trace, as one request goes along it."""

    @property
    def id(self) -> str | None:
        """The 32 hexadecimal digits that name it; None where the request is part of none."""

    def span(self, name: str, *, call: bool = False) -> AbstractContextManager[Mapping[str, str]]:
        """A part of the request, or a call of the model server, which gets the headers."""

    def end(self, describe: Callable[[], Mapping[str, str | int]], *, answer_seconds: float) -> None:
        """Say what became of the request, by attributes if need be; its answer took so many seconds at the end."""


class PassedTrace:
    """The caller's own trace, if any, without spans of the gateway's.

    Triton records whatever names a trace, sampled or not; so it hears of those alone that the caller has sampled.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        parent = headers.get("traceparent", "")
        found = _PARENT.fullmatch(parent)
        self.id = found["trace"] if found else None
        self._headers: dict[str, str] = {}
        if found and int(found["flags"], 16) & _SAMPLED:
            self._headers["traceparent"] = parent
            state = headers.get("tracestate", "").strip()
            if _STATE.fullmatch(state):
                self._headers["tracestate"] = state

    def span(self, name: str, *, call: bool = False) -> AbstractContextManager[Mapping[str, str]]:  # noqa: ARG002
        """The headers as they came."""
        return nullcontext(self._headers)

    def end(self, describe: Callable[[], Mapping[str, str | int]], *, answer_seconds: float) -> None:
        """Nobody records it."""


def open_tracer(environment: Mapping[str, str]) -> "Tracer | None":
    """What makes spans, where OTEL_EXPORTER_OTLP_ENDPOINT says where to send them; else None, and nothing is imported.

    Raises ConfigError where the packages are missing, or the environment asks for what there is not.
    """
    if not environment.get(ENDPOINT) or environment.get(DISABLED, "").strip().lower() == "true":
        return None
    for name in (PROTOCOL, PROTOCOL_OF_TRACES):
        if (asked := environment.get(name) or SPOKEN) != SPOKEN:
            raise ConfigError(f"{name}: the gateway sends its spans by {SPOKEN} alone (port 4318), not {asked!r}")
    try:
        from tritonclip_server.gateway.spans import Tracer
    except ImportError as error:
        raise ConfigError(
            f"{ENDPOINT} is set, and OpenTelemetry is not installed ({error.name}): "
            "pip install 'tritonclip-server[otel]', or unset it"
        ) from error
    try:
        return Tracer()
    except ValueError as error:
        raise ConfigError(f"OpenTelemetry does not take the OTEL_… variables as they are: {error}") from error
