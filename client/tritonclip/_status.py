"""What a server says about itself: its manifest, and the status of its models."""

import json
from collections.abc import Iterable

from tritonclip._effects import Steps
from tritonclip._errors import PermissionDeniedError, ProtocolError, StatusError, UnavailableError
from tritonclip._messages import (
    InferRequest,
    ModelReadyRequest,
    ModelStatistics,
    ServerInfo,
    ServerInfoRequest,
    StatisticsRequest,
)
from tritonclip._results import Manifest, Status
from tritonclip._session import Session

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


def fetch_manifest(session: Session) -> Steps[Manifest]:
    """Read the server's manifest, and remember it."""
    response = yield from session.infer(InferRequest("manifest", (), ("manifest",)))
    items = response["manifest"].items()
    try:
        (text,) = items
        manifest = Manifest.from_document(json.loads(text))
    except ValueError as exc:
        raise ProtocolError(f"manifest: not one JSON document ({exc})") from exc
    session.known.manifest = manifest
    return manifest


def current_manifest(session: Session) -> Steps[Manifest]:
    """The server's manifest, read again only where the server's fingerprint is no longer that of the one known."""
    known = session.known.manifest
    if known is not None and known.fingerprint is not None:
        response = yield from session.infer(InferRequest("manifest", (), ("fingerprint",)))
        if response["fingerprint"].items() == [known.fingerprint.encode()]:
            return known
    return (yield from fetch_manifest(session))


def status(session: Session, url: str) -> Steps[Status]:
    """Ask for everything that a server tells."""
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
    return Status(url, server.name, server.version, models, manifest, statistics, note)


def _ready(session: Session, names: Iterable[str]) -> Steps[dict[str, bool]]:
    ready = {}
    for name in names:
        try:
            ready[name] = bool((yield from session.call(ModelReadyRequest(name))))
        except StatusError:
            ready[name] = False
    return ready


def _statistics(session: Session) -> Steps[tuple[tuple[ModelStatistics, ...] | None, str | None]]:
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
