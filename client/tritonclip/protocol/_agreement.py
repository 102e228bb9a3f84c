"""Whether the servers of one URL serve the same model: vectors of two must not be mixed without a word.

    a manifest ──> the least busy server ──────────────────> its answer ─┐
            └────> each of the others that seem to be there ─> theirs ───┴─ one fingerprint ──> the answer
                                                                          └ several ─────────> ProtocolError

Clients read the manifest before anything else, and gateways every few seconds.
"""

import json
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress

from tritonclip._errors import ProtocolError, TritonClipError
from tritonclip.protocol._futures import start_thread
from tritonclip.protocol.messages import Call, InferRequest, InferResponse, Reply
from tritonclip.protocol.names import MANIFEST, is_manifest
from tritonclip.protocol.transport import Transport


def is_for_a_manifest(call: Call) -> bool:
    """Whether a call asks for a whole manifest, by whatever name; its revision alone is asked for often."""
    return isinstance(call, InferRequest) and is_manifest(call.model) and MANIFEST in call.outputs


def agreed(answer: Future[Reply], call: Call, others: Mapping[str, Transport], seconds: float) -> Future[Reply]:
    """An answer to such a call, once ``others``, by their URLs, have said the same or have not answered in time.

    ProtocolError where one of them has another fingerprint.
    """
    asked: dict[str, Future[Reply]] = {}
    for url, transport in others.items():
        with suppress(TritonClipError):
            asked[url] = transport.start(call, seconds)
    future = start_thread(_compare, answer, asked)  # transports' own threads must not wait
    future.add_done_callback(lambda _: [each.cancel() for each in (answer, *asked.values())])
    return future


def _compare(answer: Future[Reply], asked: Mapping[str, Future[Reply]]) -> Reply:
    reply, wanted = answer.result(), _fingerprint(answer)
    wait(asked.values())
    for url, future in asked.items():
        found = _fingerprint(future)
        if None not in (found, wanted) and found != wanted:
            raise ProtocolError(
                f"the servers of one URL serve different models: {url} has the fingerprint {found}, and another one "
                f"{wanted}. Their vectors must not be mixed"
            )
    return reply


def _fingerprint(answer: Future[Reply]) -> str | None:
    """That of a manifest; None where there is none: a server that is away is asked again for the next one."""
    try:
        reply = answer.result()
        document = json.loads(reply[MANIFEST].items()[0]) if isinstance(reply, InferResponse) else None
    except (TritonClipError, CancelledError, LookupError, ValueError, RecursionError):
        return None
    return str(document["fingerprint"]) if isinstance(document, dict) and "fingerprint" in document else None
