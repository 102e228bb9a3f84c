"""Many items in batches, several at a time, each batch's answer as it comes, so that it can be kept at once."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from tritonclip.protocol._futures import NOTICING_SECONDS

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_batches(
    items: Sequence[Item], size: int, concurrency: int, ask: Callable[[Sequence[Item]], Answer]
) -> Generator[tuple[Sequence[Item], Answer], None, None]:
    """Batches with what ``ask`` says of them, in the order in which it is done; what it raises ends the run.

    Close the generator where it is not read to its end: then nothing further starts, and what is on the wire ends by
    itself.
    """
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="tritonclip-batches")
    running: dict[Future[Answer], Sequence[Item]] = {}
    try:
        for start in range(0, len(items), size):
            batch = items[start : start + size]
            running[pool.submit(ask, batch)] = batch
        while running:
            for future in wait(running, NOTICING_SECONDS, FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
