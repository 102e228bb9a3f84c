"""Perform what operations ask for: one driver for blocking code, one for asyncio.

All decisions lie in the operations; here is only how to wait, and how to run several at a time.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from tritonclip._effects import Effect, Send, Sleep, Spread, Steps, Take, Work
from tritonclip._stream import Chunk, Outcome
from tritonclip._transports import AsyncTransport, Transport

T = TypeVar("T")


class _StoppedError(Exception):
    """Thrown into work that is no longer wanted."""


class SyncDriver:
    """Runs operations in the calling thread, and their chunks in a pool of threads."""

    def __init__(self, transport: Transport, sleep: Callable[[float], object] | None = None) -> None:
        self._transport = transport
        self._sleep = sleep

    def run(self, steps: Steps[T], stop: threading.Event | None = None) -> T:
        """Run an operation to its end. Once ``stop`` is set, it gets no further effect."""
        stop = stop or threading.Event()
        try:
            effect = next(steps)
            while True:
                try:
                    result = self._perform(effect, stop)
                except Exception as exc:
                    effect = steps.throw(exc)
                else:
                    effect = steps.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            steps.close()

    def _perform(self, effect: Effect, stop: threading.Event) -> Any:
        if stop.is_set():
            raise _StoppedError
        if isinstance(effect, Send):
            return self._transport.send(effect.call, effect.timeout)
        if isinstance(effect, Sleep):
            return self._sleep(effect.seconds) if self._sleep else stop.wait(effect.seconds)
        if isinstance(effect, Work):
            return effect.function()
        if isinstance(effect, Take):
            return effect.source.take(effect.count)
        return self._spread(effect)

    def _spread(self, spread: Spread) -> None:
        stop = threading.Event()
        source = spread.source
        if source.length is not None and source.length <= spread.chunk_size:
            # One chunk at most, as in a service that embeds what comes in one by one: no thread is needed for it.
            if items := source.take(spread.chunk_size):
                spread.collector.add(self.run(spread.work(source.chunk(items)), stop))
            return
        pool = ThreadPoolExecutor(spread.concurrency, thread_name_prefix="tritonclip")
        running: dict[Future[Outcome], Chunk] = {}
        more = True
        try:
            while True:
                while more and len(running) < spread.concurrency and not spread.collector.stopping:
                    items = spread.source.take(spread.chunk_size)
                    if more := bool(items):
                        chunk = spread.source.chunk(items)
                        running[pool.submit(self.run, spread.work(chunk), stop)] = chunk
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    spread.collector.add(future.result())
                running = {future: chunk for future, chunk in running.items() if spread.collector.matters(chunk)}
        finally:
            # What is on the wire ends by itself, at its timeout at the latest; nobody waits for it.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


class AsyncDriver:
    """Runs operations on the event loop, their chunks as tasks, and blocking work in threads."""

    def __init__(self, transport: AsyncTransport, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._transport = transport
        self._sleep = sleep

    async def run(self, steps: Steps[T]) -> T:
        """Run an operation to its end."""
        try:
            effect = next(steps)
            while True:
                try:
                    result = await self._perform(effect)
                except Exception as exc:
                    effect = steps.throw(exc)
                else:
                    effect = steps.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            steps.close()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            return await self._transport.send(effect.call, effect.timeout)
        if isinstance(effect, Sleep):
            return await self._sleep(effect.seconds)
        if isinstance(effect, Work):
            return await asyncio.to_thread(effect.function)
        if isinstance(effect, Take):
            return await effect.source.take_async(effect.count)
        return await self._spread(effect)

    async def _spread(self, spread: Spread) -> None:
        running: dict[asyncio.Task[Outcome], Chunk] = {}
        more = True
        unwanted: list[asyncio.Task[Outcome]] = []
        try:
            while True:
                while more and len(running) < spread.concurrency and not spread.collector.stopping:
                    items = await spread.source.take_async(spread.chunk_size)
                    if more := bool(items):
                        chunk = spread.source.chunk(items)
                        running[asyncio.create_task(self.run(spread.work(chunk)))] = chunk
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
                    spread.collector.add(task.result())
                for task in [task for task, chunk in running.items() if not spread.collector.matters(chunk)]:
                    del running[task]
                    task.cancel()
                    unwanted.append(task)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, *unwanted, return_exceptions=True)
