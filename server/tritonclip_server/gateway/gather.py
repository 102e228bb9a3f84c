"""Several coroutines at once, none of which outlives the call."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def gather_or_cancel(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """What all of them return, in their order. Once one fails, the others are cancelled, and end before it raises.

    Whoever called may then give back what they held: nothing of theirs is still running.
    """
    if len(works) <= 1:  # as most often: a task costs as much as a good part of a small request
        return [await work for work in works]
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            if not task.cancelling():  # asked once: a second time would break off what it does to end well
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # how they ended was heard of above
