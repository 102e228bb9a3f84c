"""What the operations of one client share: its limits, what it knows of the server, and how a call is retried.

A call that meets UNAVAILABLE is repeated with jittered, growing pauses until its timeout is used up. A server that
cannot be reached is an error at once while this client has never reached it (the URL is wrong, or nothing runs
there); later it is a server that restarts, and is waited for in the same way. A server that says when to come back is
given that time; where it is more than what is left of the timeout, its error is the answer.
"""

import math
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from tritonclip import _defaults
from tritonclip._core.effects import Operation, Send, Sleep
from tritonclip._errors import (
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RequestCancelledError,
    ServerError,
    StatusError,
    TritonClipError,
    UnavailableError,
)
from tritonclip._manifest import Manifest
from tritonclip.protocol.connection import REQUEST_ID
from tritonclip.protocol.messages import (
    Call,
    FloatArray,
    InferRequest,
    InferResponse,
    ModelReadyRequest,
    Reply,
    StatisticsRequest,
)
from tritonclip.protocol.names import MANIFEST, addressed, others, served_names


@dataclass(frozen=True, eq=False)
class LabelFeatures:
    """Features of a list of prompts [N, D], and how many tokens those have that were cut (None: not looked at)."""

    rows: FloatArray
    tokens: Mapping[int, int] | None


@dataclass
class Known:
    """What a client knows of its server. Threads can share it: each part is only ever replaced as a whole.

    ``asking`` has the manifest that is being asked for, by process: a forked one asks for itself.
    """

    reached: bool = False
    manifest: Manifest | None = None
    label_features: dict[tuple[str | None, ...], LabelFeatures] = field(default_factory=dict)
    asking: dict[int, "Future[Manifest | None]"] = field(default_factory=dict)


@dataclass
class Session:
    """State of one client: its limits, and what it knows of the server."""

    timeout: float = _defaults.TIMEOUT
    concurrency: int = _defaults.CONCURRENCY
    batch_size: int | None = None  # None: by kind, images 16 and texts 64
    headers: Mapping[str, str] = field(default_factory=dict)  # of each inference
    model: str | None = None  # by which name, of several that the server carries; calls leave it out
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    known: Known = field(default_factory=Known, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.timeout, int | float) or not 0 < self.timeout < math.inf:
            raise ConfigError(f"timeout must be a number of seconds, more than 0, not {self.timeout!r}")
        counts: dict[str, Any] = {"concurrency": self.concurrency}
        if self.batch_size is not None:
            counts["batch_size"] = self.batch_size
        for name, count in counts.items():
            if not isinstance(count, int) or count < 1:
                raise ConfigError(f"{name} must be a whole number, at least 1, not {count!r}")

    def with_timeout(self, timeout: float) -> "Session":
        """This session with another timeout: what either learns of the server, both know."""
        other = copy(self)
        other.timeout = timeout
        other.__post_init__()
        return other

    def with_headers(self, headers: Mapping[str, str]) -> "Session":
        """This session with further headers on each inference: what either learns of the server, both know."""
        other = copy(self)
        other.headers = {**self.headers, **headers}
        return other

    @property
    def max_batch_size(self) -> int:
        """The most items that the server takes in one request."""
        return self.known.manifest.max_batch_size if self.known.manifest else _defaults.MAX_BATCH_SIZE

    @property
    def embedding_width(self) -> int | None:
        """D, as far as the server says it."""
        return self.known.manifest.embedding_width if self.known.manifest else None

    @property
    def context_length(self) -> int | None:
        """How many tokens the model reads of a text, as far as the server says it."""
        return self.known.manifest.context_length if self.known.manifest else None

    def forget_manifest(self) -> None:
        """Have the next call ask for the manifest anew."""
        self.known.manifest = None

    def remember_labels(self, key: tuple[str | None, ...], features: LabelFeatures) -> None:
        """Keep the features of a list of prompts; the oldest lists go when there are too many."""
        kept = self.known.label_features | {key: features}
        while kept and sum(len(features.rows) for features in kept.values()) > _defaults.LABELS_KEPT:
            del kept[next(iter(kept))]
        self.known.label_features = kept

    def call(self, call: Call) -> Operation[Reply]:
        """Send a call, with retries inside the timeout: any number while the server is away, few where it fails."""
        deadline = self.clock() + self.timeout
        ceiling = _defaults.BACKOFF_FIRST
        server_errors = 0
        while True:
            try:
                return (yield from self.call_once(call, deadline - self.clock()))
            except (UnavailableError, ConnectError, ServerError) as exc:
                server_errors += isinstance(exc, ServerError)
                if server_errors > _defaults.SERVER_ERRORS_RETRIED:
                    raise
                if isinstance(exc, ConnectError) and not self.known.reached:
                    raise
                # What the server asks for, and then not all at the same moment.
                pause = (getattr(exc, "retry_after", None) or 0.0) + self.random() * ceiling
                if self.clock() + pause >= deadline:
                    raise
            ceiling = min(2 * ceiling, _defaults.BACKOFF_LONGEST)
            yield Sleep(pause)

    def call_once(self, call: Call, timeout: float | None = None) -> Operation[Reply]:
        """Send a call without retries."""
        timeout = self.timeout if timeout is None else timeout
        if timeout <= 0:
            raise DeadlineExceededError(
                f"no answer within {self.timeout:g} s", status_code="DEADLINE_EXCEEDED", model=call.model
            )
        try:
            reply: Reply = yield Send(addressed(call, self.model), timeout)
        except TritonClipError as exc:
            self.known.reached = self.known.reached or _came_from_server(exc)
            raise
        self.known.reached = True
        return reply

    def infer(self, request: InferRequest) -> Operation[InferResponse]:
        """Send an inference, with retries."""
        if self.headers:
            request = replace(request, id=self.headers.get(REQUEST_ID, ""), headers=tuple(self.headers.items()))
        try:
            reply = yield from self.call(request)
        except NotFoundError as exc:
            yield from self._look_for_others(exc)
            raise
        if not isinstance(reply, InferResponse):
            raise ProtocolError(f"{request.model}: not an inference response: {type(reply).__name__}")
        return reply

    def _look_for_others(self, error: NotFoundError) -> Operation[None]:
        """Raise the error with the names that the server has models by, where this client's is none of them.

        Statistics name all models. Where they are restricted, nobody but an operator learns the names.
        """
        try:
            if (yield from self.call_once(ModelReadyRequest(MANIFEST))):
                return
            reply = yield from self.call_once(StatisticsRequest())
        except (PermissionDeniedError, UnavailableError):
            hint = "the server may carry models by names that it tells its operator alone; model=NAME asks for one"
        except TritonClipError:
            return
        else:
            names = served_names(entry.name for entry in reply) if isinstance(reply, tuple) else []
            if not names or self.model in names:
                return
            hint = others(names)
        raise NotFoundError(f"{error.reason}; {hint}", status_code=error.status_code, model=error.model) from error


def _came_from_server(error: TritonClipError) -> bool:
    # Deadlines and cancellations are also declared on this side, with no server in sight.
    return isinstance(error, StatusError) and not isinstance(error, DeadlineExceededError | RequestCancelledError)
