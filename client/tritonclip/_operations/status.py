"""What a server says about itself: its manifest, and the status of its models."""

import os
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace

from tritonclip._core.effects import Operation, Wait
from tritonclip._core.session import Session
from tritonclip._errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RequestCancelledError,
    StatusError,
    TritonClipError,
    UnavailableError,
)
from tritonclip._manifest import Manifest
from tritonclip._results import Status
from tritonclip.protocol._json import parse_json
from tritonclip.protocol.messages import (
    InferRequest,
    ModelReadyRequest,
    ModelStatistics,
    ServerInfo,
    ServerInfoRequest,
    StatisticsRequest,
)
from tritonclip.protocol.names import others, own_models, served_names
from tritonclip.protocol.statuses import status_error

MODELS = (
    "embed_image",
    "embed_text",
    "compare",
    "similarity",
    "manifest",
    "image_preprocess",
    "image_encoder",
    "text_tokenize",
    "text_encoder",
)
"""The models of a served repository; listing what the server has is a restricted call, asking for these is not."""


def fetch_manifest(session: Session) -> Operation[Manifest]:
    """Read the server's manifest, and remember it."""
    response = yield from session.infer(InferRequest("manifest", (), ("manifest",)))
    items = response["manifest"].items()
    try:
        (text,) = items
        manifest = Manifest.from_document(parse_json(text))
    except ValueError as exc:
        raise ProtocolError(f"manifest: not one JSON document ({exc})") from exc
    session.known.manifest = manifest
    return manifest


def known_manifest(session: Session) -> Operation[Manifest]:
    """The manifest that is known, else the server's: asked for by one call, while others wait for its answer.

    Nobody waits longer than for his own timeout. Where the one that asks ran out of time, or was given up, another one
    asks; any other error of it is that of all.
    """
    deadline = session.clock() + session.timeout
    while True:
        if (known := session.known.manifest) is not None:
            return known
        left = deadline - session.clock()
        if left <= 0:
            raise status_error("DEADLINE_EXCEEDED", f"no answer within {session.timeout:g} s", "manifest")
        mine: Future[Manifest | None] = Future()
        asking = session.known.asking.setdefault(os.getpid(), mine)
        if asking is mine:
            return (yield from _ask_for_all(session.with_timeout(left), mine))
        yield Wait(asking, left)
        if asking.done() and (manifest := asking.result()) is not None:
            return manifest


def manifest(session: Session, *, refresh: bool) -> Operation[Manifest]:
    """The manifest that is known, or the server's as it is now."""
    return (yield from (fetch_manifest(session) if refresh else known_manifest(session)))


def _ask_for_all(session: Session, asking: "Future[Manifest | None]") -> Operation[Manifest]:
    """Fetch the manifest, and tell those who wait; None tells them to look for themselves."""
    try:
        manifest = yield from fetch_manifest(session)
        asking.set_result(manifest)
        return manifest
    except (DeadlineExceededError, RequestCancelledError):
        raise
    except TritonClipError as exc:
        asking.set_exception(exc)
        raise
    finally:
        session.known.asking.pop(os.getpid(), None)
        if not asking.done():
            asking.set_result(None)


def current_manifest(session: Session) -> Operation[Manifest]:
    """The server's manifest, read again only where its revision is no longer that of the one known.

    A server that knows no revisions has a fingerprint, which its label sets do not change.
    """
    known = session.known.manifest
    if known is None:
        return (yield from known_manifest(session))
    name, value = ("revision", known.revision) if known.revision is not None else ("fingerprint", known.fingerprint)
    if value is not None:
        try:
            response = yield from session.infer(InferRequest("manifest", (), (name,)))
        except InvalidArgumentError:  # an older server now, which has no such output
            return (yield from fetch_manifest(session))
        if response[name].items() == [value.encode()]:
            return known
    return (yield from fetch_manifest(session))


def status(session: Session, url: str) -> Operation[Status]:
    """Ask for everything that a server tells of one model; NotFoundError where it has others by name, and not this."""
    server = yield from session.call(ServerInfoRequest())
    if not isinstance(server, ServerInfo):
        raise ProtocolError(f"server: not its name and version: {type(server).__name__}")
    models = yield from _ready(session, MODELS)
    manifest = None
    if models["manifest"]:
        manifest = yield from fetch_manifest(session)
        models |= yield from _ready(
            session, [model for name in manifest.label_sets for model in (f"head_{name}", f"classify_{name}")]
        )
    statistics, note = yield from _statistics(session)
    names = served_names(entry.name for entry in statistics or ())
    if names and session.model not in names:
        raise NotFoundError(others(names), status_code="NOT_FOUND")
    if statistics is not None:
        own = own_models((entry.name for entry in statistics), session.model)
        statistics = tuple(replace(entry, name=own[entry.name]) for entry in statistics if entry.name in own)
    return Status(url, server.name, server.version, models, manifest, statistics, note)


def _ready(session: Session, names: Iterable[str]) -> Operation[dict[str, bool]]:
    ready = {}
    for name in names:
        try:
            ready[name] = bool((yield from session.call(ModelReadyRequest(name))))
        except StatusError:
            ready[name] = False
    return ready


def _statistics(session: Session) -> Operation[tuple[tuple[ModelStatistics, ...] | None, str | None]]:
    # Never retried: over gRPC, Triton refuses a restricted call with UNAVAILABLE.
    try:
        reply = yield from session.call_once(StatisticsRequest())
    except (PermissionDeniedError, UnavailableError) as exc:
        return (
            None,
            f"statistics unavailable: give the admin key, or the right one, in TRITONCLIP_ADMIN_KEY ({exc.reason})",
        )
    except StatusError as exc:
        return None, f"statistics unavailable: {exc}"
    if not isinstance(reply, tuple):
        raise ProtocolError(f"server: not statistics: {type(reply).__name__}")
    return reply, None
