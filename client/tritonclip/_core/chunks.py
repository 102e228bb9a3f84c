"""Any number of items through one model: chunks in flight, and failing items isolated.

    items ──encode──> payloads ──(groups under the size limit)──> one inference each ──> rows in place

A request that the server refuses is halved until the item at fault stands alone, so its neighbours get their rows.
"""

from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial

from tqdm import tqdm

from tritonclip import _defaults
from tritonclip._core.effects import FanOut, Operation, Work
from tritonclip._core.modality import TEXT, Modality
from tritonclip._core.session import Session
from tritonclip._core.stream import Answer, Chunk, Collector, Encoded, Entry, Outcome, Source
from tritonclip._errors import (
    ConfigError,
    DeadlineExceededError,
    InvalidArgumentError,
    ProtocolError,
    ResourceExhaustedError,
    ServerError,
    UnavailableError,
)
from tritonclip.protocol.statuses import refused_item

Infer = Callable[[list[Entry]], Operation[Answer]]
"""One inference: entries in, a row or an error for each out."""

REFUSED = (InvalidArgumentError, ResourceExhaustedError)
"""The server did not like what was sent; less of it may be fine."""

FAILED = (UnavailableError, DeadlineExceededError, ServerError, ProtocolError)
"""The server did not manage this request; the next may succeed."""


def fan_out(
    session: Session, modality: Modality, source: Source, infer: Infer, on_error: str, progress: bool
) -> Operation[Collector]:
    """Run all items of a source through ``infer``; the collector has the rows and the errors."""
    stop_at_error = stops_at_error(on_error)
    # None where none is wanted: a bar that shows nothing still takes tqdm's lock, which a fork may find taken.
    bar = tqdm(total=source.length, unit=modality.noun) if progress else None
    collector = Collector(stop_at_error=stop_at_error, on_items=bar.update if bar is not None else None)
    with closing(bar) if bar is not None else nullcontext():
        yield FanOut(
            source,
            min(session.batch_size or modality.per_request, session.max_batch_size),
            session.concurrency,
            partial(infer_chunk, modality, infer, stop_at_error=stop_at_error),
            collector,
        )
    collector.errors = dict(sorted(collector.errors.items()))
    return collector


def stops_at_error(on_error: str) -> bool:
    """Read an ``on_error`` argument."""
    if on_error not in ("raise", "return"):
        raise ConfigError(f'on_error must be "raise" or "return", not {on_error!r}')
    return on_error == "raise"


def infer_chunk(modality: Modality, infer: Infer, chunk: Chunk, *, stop_at_error: bool) -> Operation[Outcome]:
    """Run one chunk. Where errors stop the run, the chunk's first one is enough."""
    outcome = Outcome(chunk)
    entries: list[Entry] = []
    encoded = yield from encode_items(modality, chunk)
    for position, item in enumerate(encoded, start=chunk.start):
        if item.error is None:
            entries.append((position, item.payload))
        else:
            outcome.errors[position] = item.error
            if stop_at_error:
                break
    parts = group_by_size(entries)[::-1]  # a stack, the leftmost part on top
    while parts:
        part = parts.pop()
        try:
            answer = yield from infer(part)
            outcome.add(answer)
            if stop_at_error and answer.errors:
                break
        except REFUSED as exc:
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
                continue
            position = part[0][0]
            outcome.errors[position] = refused_item(exc, noun=modality.noun, index=position)
            if stop_at_error:
                break
        except FAILED as exc:
            if stop_at_error:
                raise
            outcome.errors.update(dict.fromkeys((position for position, _ in part), exc))
    return outcome


def encode_items(modality: Modality, chunk: Chunk) -> Operation[list[Encoded]]:
    """The payloads of a chunk's items, made where blocking does no harm."""

    def encode() -> list[Encoded]:
        return [modality.encode(item, position) for position, item in enumerate(chunk.items, start=chunk.start)]

    if modality is TEXT or all(isinstance(item, bytes | Encoded) for item in chunk.items):
        return encode()  # nothing to read or to compress
    encoded: list[Encoded] = yield Work(encode)
    return encoded


def group_by_size(entries: list[Entry], limit: int = _defaults.MAX_REQUEST_BYTES) -> list[list[Entry]]:
    """Cut a list so that no part holds more than ``limit`` bytes, save a part of one item."""
    groups: list[list[Entry]] = []
    size = 0
    for entry in entries:
        size += len(entry[1])
        if not groups or size > limit:
            groups.append([])
            size = len(entry[1])
        groups[-1].append(entry)
    return groups
