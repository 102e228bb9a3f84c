"""The indexes that a gateway serves, by name: searched in bounded number, and never with another model's vectors.

    request ─> find ─> room (FairSemaphore) ─> a thread of the pool: tritonclip.search.Index ─> results
                 └─> check_model: the fingerprint of its vectors against the model's that is asked

Searches have threads of their own, so that a slow one keeps neither the event loop nor what else is done in threads
waiting. A search that nobody waits for any more has its place until its thread ends: places say what is really at work.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tritonclip import InputError, Manifest, TritonClipError
from tritonclip_server.gateway.admission.fair_semaphore import FairSemaphore, QueueLimits
from tritonclip_server.gateway.errors import ApiError, in_words, may_be_shown
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.settings import Limits

if TYPE_CHECKING:
    from tritonclip.search import Index, IndexInfo

T = TypeVar("T")

NONE_SERVED = "this gateway serves no index: start it with --index NAME=URI"

log = logging.getLogger("gateway")


@dataclass(frozen=True, eq=False)
class ServedIndex:
    """An index and the name it is served by; `opened` is what it was then, of which the model does not change."""

    name: str
    index: "Index"
    opened: "IndexInfo"

    @property
    def model(self) -> str:
        """The model whose vectors it has."""
        return self.opened.variant or "default"

    def is_of_one(self, manifests: Sequence[Manifest | None]) -> bool | None:
        """Whether one of these models made its vectors; None where nobody knows, as one never said what it is."""
        fingerprints = [manifest and manifest.fingerprint for manifest in manifests]
        if self.opened.fingerprint in fingerprints:
            return True
        return None if None in fingerprints else False

    def check_model(self, manifest: Manifest) -> None:
        """Raise ApiError where a model is another one than made the vectors."""
        if not self.is_of_one([manifest]):
            raise ApiError("index_mismatch", self.mismatch([manifest]), param="index")

    def mismatch(self, manifests: Sequence[Manifest]) -> str:
        """That the deployed models are others, in words."""
        deployed = ", ".join(f"{each.variant or 'default'} ({each.fingerprint})" for each in manifests)
        return (
            f"{self.name} has vectors of {self.model} ({self.opened.fingerprint}), and the model that is deployed is "
            f"{deployed}: they cannot be compared; rows that are like another row can still be found"
        )


class Indexes:
    """All indexes of one gateway, which it closes when it ends."""

    def __init__(self, indexes: "Mapping[str, Index]", limits: Limits, metrics: Metrics) -> None:
        self._served = {name: ServedIndex(name, index, index.info()) for name, index in indexes.items()}
        self._room = FairSemaphore(
            "searches",
            limits.searches,
            share=limits.searches - limits.searches // 4,  # one caller's slow ones leave room for others
            bounds=QueueLimits(limits.waiting, limits.waiting_seconds),
            metrics=metrics,
            changed=metrics.searches.set,
        )
        self._pool = ThreadPoolExecutor(limits.searches, thread_name_prefix="search")
        self._mismatched: set[tuple[str, str]] = set()

    @property
    def served(self) -> list[ServedIndex]:
        """All of them, in the order in which they were given."""
        return list(self._served.values())

    def find(self, name: str | None, may: Callable[[ServedIndex], bool]) -> ServedIndex:
        """The index of this name, or the only one that may be searched where none is named.

        ApiError where there is none, or where it may not be searched.
        """
        if not self._served:
            raise ApiError("index_not_found", NONE_SERVED, param="index")
        allowed = [served.name for served in self.served if may(served)]
        if name is None and len(allowed) == 1:
            name = allowed[0]
        there_are = ", ".join(allowed) or "none for this key"
        if name is None:
            raise ApiError("missing_field", f"name one of {there_are}", param="index")
        if name not in self._served:
            raise ApiError("index_not_found", f"there is no {in_words(name)}; there is {there_are}", param="index")
        if name not in allowed:
            raise ApiError("model_not_allowed", "this key is not for the model of this index", param="index")
        return self._served[name]

    def notice(self, known: Sequence[Manifest | None]) -> None:
        """Log once of each index that no deployed model made its vectors, where all of them are known."""
        manifests = [manifest for manifest in known if manifest is not None]
        if len(manifests) < len(known):
            return
        for served in self.served:
            mismatch = served.mismatch(manifests)
            if not served.is_of_one(manifests) and (served.name, mismatch) not in self._mismatched:
                self._mismatched.add((served.name, mismatch))
                log.warning("index %s", mismatch)

    async def warm(self) -> None:
        """Have each index read what it needs to be searched, so that nobody's first search waits for that."""
        for served in self.served:
            direction = [1.0] * served.opened.width
            try:
                await asyncio.wrap_future(self._pool.submit(served.index.search, vector=direction, top_k=1))
            except TritonClipError as error:  # whoever searches is told, too
                log.warning("index %s cannot be read: %s", served.name, error)

    async def ask(self, context: RequestContext, work: Callable[[], T], param: str | None = None) -> T:
        """What some work with an index returns, done in a thread once there is room for it.

        ApiError where there is no room in time, and for what the index refuses: `param` is the field that has the id.
        """
        with context.stage("wait"):
            await self._room.acquire(context.caller, 1, deadline=context.deadline)
        loop = asyncio.get_running_loop()

        def ended(_: "Future[T]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before the thread
                loop.call_soon_threadsafe(self._room.release, context.caller, 1)

        running = self._pool.submit(work)
        running.add_done_callback(ended)
        with context.stage("search"), _in_words(param):
            return await asyncio.wrap_future(running)

    def close(self) -> None:
        """Close all indexes; what is still being searched ends in vain."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for served in self.served:
            served.index.close()


@contextlib.contextmanager
def _in_words(param: str | None) -> Iterator[None]:
    """An index's errors as those of a request. Of what is not the caller's doing the log alone has the words."""
    try:
        yield
    except InputError as error:
        if error.noun == "id":
            raise ApiError("not_found", error.reason, param=param) from None
        if error.noun == "filter":
            raise ApiError("invalid_filter", _about_filter(error.reason), param="filter") from error
        raise ApiError("invalid_value", error.reason, param=error.noun) from error
    except TritonClipError as error:
        raise ApiError("index_unavailable", "the index cannot be read now; try again") from error


def _about_filter(reason: str) -> str:
    """What is wrong with a filter; of the store's words those without the filter and the statement made of it."""
    _, by_store, words = reason.rpartition(" cannot be used: ")
    if not by_store:
        return reason
    words = words.rpartition("(sql parser error: ")[2].removesuffix(")") if "(sql parser error: " in words else words
    return words if may_be_shown(words) else "the store cannot use it as a condition over this index's columns"
