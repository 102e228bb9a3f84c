"""Work that would keep the event loop waiting, in a thread; what is done sooner than it is handed over stays."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LARGE_BYTES = 2**16  # of what is parsed, decoded or written: below it, a thread costs more than the work


async def in_thread_if(large: bool, work: Callable[[], T]) -> T:
    """What some work gives, done in a thread where it is large."""
    return await asyncio.to_thread(work) if large else work()
