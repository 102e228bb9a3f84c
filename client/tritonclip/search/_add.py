"""Images into an index: what is there already is passed over, the rest goes through the server as a stream.

names ──_sources──> items ──(unchanged ones left out)──> read, described ──embed_image──> rows ──_writer──> commits

Items that have their vectors become rows as they are.
"""

import asyncio
import dataclasses
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from tqdm import tqdm

from tritonclip._core.chunks import infer_chunk
from tritonclip._core.effects import FanOut, Operation, Work
from tritonclip._core.modality import IMAGE
from tritonclip._core.session import Session
from tritonclip._core.stream import Chunk, Collector, Outcome, Source
from tritonclip._operations.embed import infer_features
from tritonclip._operations.status import known_manifest
from tritonclip.search._images import Details, describe
from tritonclip.search._items import Item, with_name
from tritonclip.search._lock import writing
from tritonclip.search._prune import mended, vanished
from tritonclip.search._rows import Row, fit
from tritonclip.search._schema import OWN_COLUMNS
from tritonclip.search._sources import NamedSource, find_sources
from tritonclip.search._store import Store
from tritonclip.search._vectors import VectorSource
from tritonclip.search._writer import Writer

SMALL_FRAGMENTS = 100  # of which searches and openings begin to suffer; then they are merged


@dataclass(frozen=True)
class AddReport:
    """How many images were new, were new in content, were there already, failed (see ``errors``), were dropped."""

    added: int
    changed: int
    unchanged: int
    failed: int
    pruned: int
    seconds: float


@dataclass
class Pending:
    """An item on its way: what is read of it when its turn comes."""

    item: Item
    thumbnails: bool
    details: Details | None = None

    def read(self) -> bytes:
        """The image's bytes; its details are then known. OSError says why there are none; where is known."""
        try:
            content = self.item.read()
        except OSError as exc:
            raise OSError(exc.strerror or str(exc)) from exc
        self.details = describe(content, thumbnail=self.thumbnails)
        self.item = dataclasses.replace(
            self.item, read=_read_before
        )  # it may hold the bytes, which are on their way now
        return content


def _read_before() -> bytes:
    raise RuntimeError("an image is read once")


class Selection:
    """The items of all sources that are not in the index as they are; counts those passed over.

    ``mended`` are the ids of those passed over that have an error: it is of another time, when they were otherwise, or
    a run was killed before it could take the error away.
    """

    def __init__(self, store: Store, sources: Iterable[NamedSource], *, digest: bool) -> None:
        self.sources = list(sources)
        self.seen: set[str] = set()
        self.unreadable: set[str] = set()
        self.mended: list[str] = []
        self.unchanged = 0
        self._failed_before = set(store.errors()["id"].to_pylist())
        self._digest = digest
        self._thumbnails = store.identity.thumbnails
        self._own = [name for name in store.columns if name not in OWN_COLUMNS]
        self._types = {name: store.schema.field(name).type for name in self._own}
        columns = ["id", "digest", "bytes", "mtime", "caption", *self._own]
        self._known: dict[str, tuple[Any, ...]] = {}
        for batch in store.batches(columns):
            ids, digests, *rest = (batch[name].to_pylist() for name in columns)
            rest = [digests if digest else [None] * len(ids), *rest]
            self._known.update(zip(ids, zip(*rest, strict=True), strict=True))

    def __contains__(self, id_: str) -> bool:
        return id_ in self._known

    def __iter__(self) -> Iterator[Pending]:
        """Those that are to be embedded."""
        return self.of(source for source in self.sources if not isinstance(source, VectorSource))

    def of(self, sources: Iterable[NamedSource]) -> Iterator[Pending]:
        """Those of some sources."""
        for source in sources:
            for item in map(with_name, source.items()):
                id_ = item.id
                if id_ in self.seen:
                    continue
                self.seen.add(id_)
                if not item.readable:
                    self.unreadable.add(id_)
                known = self._known.get(id_)
                if known is None:
                    yield Pending(item, self._thumbnails)
                elif self._is_unchanged(item, known):
                    self.unchanged += 1
                    if id_ in self._failed_before:
                        self.mended.append(id_)
                else:
                    yield Pending(self._completed(item, known), self._thumbnails)

    def count(self) -> int:
        """How many images the sources have, those passed over among them."""
        return sum(source.count() for source in self.sources)

    def _is_unchanged(self, item: Item, known: tuple[Any, ...]) -> bool:
        if not item.readable:
            return False
        digest, byte_count, mtime, caption, *own = known
        said = dict(zip(self._own, own, strict=True))
        if item.caption not in (None, caption):
            return False
        for name, value in item.metadata.items():
            if value is not None and (name not in said or said[name] != fit(value, self._types[name])):
                return False
        if item.vector is not None:  # which may be of another image by now: all that tells is its file's time
            return bool(mtime == item.mtime)
        if not self._digest:
            return item.byte_count is None or (byte_count, mtime) == (item.byte_count, item.mtime)
        try:
            return bool(digest == hashlib.sha256(item.read()).hexdigest())
        except OSError:
            return False  # it will fail by name

    def _completed(self, item: Item, known: tuple[Any, ...]) -> Item:
        """An item with what its row says beside, where the source says nothing of it."""
        _, _, _, caption, *own = known
        said = {name: value for name, value in zip(self._own, own, strict=True) if value is not None}
        return dataclasses.replace(item, caption=item.caption or caption, metadata={**said, **item.metadata})


class Rows(Collector):
    """Hands on what comes, row by row, and keeps nothing."""

    def __init__(self, selection: Selection, writer: Writer, bar: "tqdm[Any] | None") -> None:
        super().__init__(stop_at_error=False)
        self._selection = selection
        self._all = bar.total if bar is not None else 0
        self._writer = writer
        self._bar = bar

    def add(self, outcome: Outcome) -> None:
        """Write a chunk's rows and errors."""
        pending: list[Pending] = outcome.chunk.items
        start = outcome.chunk.start
        for positions, vectors in outcome.blocks:
            for position, vector in zip(positions, vectors, strict=True):
                each = pending[position - start]
                if each.details is not None:
                    self._writer.add(Row(each.item, each.details, vector))
        for position, error in outcome.errors.items():
            self._writer.fail(pending[position - start].item, str(getattr(error, "reason", error)))
        self._writer.flush_if_due()
        if self._bar is not None:
            self._bar.total = self._all - self._selection.unchanged  # its rate is that of the work
            self._bar.update(len(pending))


def add(
    session: Session,
    store: Store,
    names: Iterable[str | os.PathLike[str]],
    *,
    digest: bool,
    prune: bool,
    progress: bool,
    asynchronous: bool,
) -> Operation[AddReport]:
    """Bring an index up to date with what the names stand for."""
    started = time.perf_counter()
    sources = find_sources(names)
    made_before = [source for source in sources if isinstance(source, VectorSource)]
    store.identity.check((yield from known_manifest(session)), store.uri)
    for source in made_before:
        source.check(store.identity)
    with writing(store.database, store.uri) as renew:
        selection: Selection = yield Work(partial(Selection, store, sources, digest=digest))
        writer: Writer = yield Work(partial(Writer, store, selection.__contains__, renew))
        try:
            yield Work(partial(_take, selection, made_before, writer))
            yield from _embed(session, selection, writer, progress=progress, asynchronous=asynchronous)
            yield Work(writer.close)
        finally:
            writer.close()  # what came before the run was ended
        yield Work(renew)
        pruned = 0
        if prune:
            pruned = yield Work(partial(vanished, store, sources, selection.seen, selection.unreadable))
        yield Work(partial(_tidy, store, selection))
    return AddReport(
        writer.added, writer.changed, selection.unchanged, writer.failed, pruned, time.perf_counter() - started
    )


def _take(selection: Selection, sources: Iterable[VectorSource], writer: Writer) -> None:
    """Write rows whose vectors are there."""
    for pending in selection.of(sources):
        if pending.item.vector is not None:
            writer.add(Row(pending.item, Details(), pending.item.vector))
            writer.flush_if_due()


def _embed(
    session: Session, selection: Selection, writer: Writer, *, progress: bool, asynchronous: bool
) -> Operation[None]:
    total = (yield Work(selection.count)) if progress else None
    bar = tqdm(total=total, unit="image", smoothing=0.05) if progress else None
    with closing(bar) if bar is not None else nullcontext():
        yield FanOut(
            Source(_in_threads(iter(selection)) if asynchronous else selection),
            min(session.batch_size or IMAGE.per_request, session.max_batch_size),
            session.concurrency,
            partial(_chunk, session),
            Rows(selection, writer, bar),
        )


def _chunk(session: Session, chunk: Chunk) -> Operation[Outcome]:
    return infer_chunk(IMAGE, partial(infer_features, session, IMAGE, "allow"), chunk, stop_at_error=False)


async def _in_threads(items: Iterator[Pending], at_once: int = 64) -> AsyncIterator[Pending]:
    """Have a source read in threads, so that the event loop is not held up by files."""
    while some := await asyncio.to_thread(lambda: list(islice(items, at_once))):
        for item in some:
            yield item


def _tidy(store: Store, selection: Selection) -> None:
    store.forget_errors([*selection.mended, *mended(store, selection.sources, selection.seen)])
    if store.small_fragments > SMALL_FRAGMENTS:
        store.compact()
