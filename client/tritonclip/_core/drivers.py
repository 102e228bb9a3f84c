"""Perform what operations ask for: one driver for blocking code, one for asyncio.

All decisions lie in the operations; here is only how to wait, and how to run several at a time.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import Any, TypeVar

from tritonclip._core.effects import Effect, FanOut, Operation, Send, Sleep, Take, Wait, Work
from tritonclip._core.stream import Chunk, Outcome
from tritonclip.protocol._futures import NOTICING_SECONDS, blocking_result, result_of, settled, start_thread
from tritonclip.protocol.transport import AsyncTransport, Transport

T = TypeVar("T")


class _StoppedError(Exception):
    """Thrown into work that is no longer wanted."""


class _Stop:
    """Tells work in other threads that it is no longer wanted, and gives up the calls that it waits for."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._calls: set[Future[Any]] = set()

    def set(self) -> None:
        self._event.set()
        for call in self._calls.copy():
            call.cancel()

    def check(self) -> None:
        if self._event.is_set():
            raise _StoppedError

    def sleep(self, seconds: float) -> None:
        self._event.wait(seconds)

    def result(self, call: Future[T]) -> T:
        """A call's result. A call that nobody waits for any more, as after an interruption, is given up."""
        self._calls.add(call)
        try:
            self.check()
            return blocking_result(call)
        except CancelledError:
            raise _StoppedError from None
        finally:
            self._calls.discard(call)
            call.cancel()


class SyncDriver:
    """Runs operations in the calling thread, and their chunks in threads of their own."""

    def __init__(self, transport: Transport, sleep: Callable[[float], object] | None = None) -> None:
        self._transport = transport
        self._sleep = sleep

    def run(self, operation: Operation[T], stop: _Stop | None = None) -> T:
        """Run an operation to its end. Once ``stop`` is set, it gets no further effect."""
        stop = stop or _Stop()
        try:
            effect = next(operation)
            while True:
                try:
                    result = self._perform(effect, stop)
                except Exception as exc:
                    effect = operation.throw(exc)
                else:
                    effect = operation.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            operation.close()

    def _perform(self, effect: Effect, stop: _Stop) -> Any:
        stop.check()
        if isinstance(effect, Send):
            return stop.result(self._transport.start(effect.call, effect.timeout))
        if isinstance(effect, Sleep):
            return self._sleep(effect.seconds) if self._sleep else stop.sleep(effect.seconds)
        if isinstance(effect, Wait):
            return wait([effect.future], min(effect.timeout, NOTICING_SECONDS))
        if isinstance(effect, Work):
            return effect.function()
        if isinstance(effect, Take):
            return effect.source.take(effect.count)
        return self._fan_out(effect)

    def _fan_out(self, fan_out: FanOut) -> None:
        stop = _Stop()
        if fan_out.source.is_short(fan_out.chunk_size):
            # One chunk at most, as in a service that embeds what comes in one by one: no thread is needed for it.
            if items := fan_out.source.take(fan_out.chunk_size):
                fan_out.collector.add(self.run(fan_out.work(fan_out.source.chunk(items)), stop))
            return
        running: dict[Future[Outcome], Chunk] = {}
        more = True
        try:
            while True:
                while more and len(running) < fan_out.concurrency and not fan_out.collector.stopping:
                    items = fan_out.source.take(fan_out.chunk_size)
                    if more := bool(items):
                        chunk = fan_out.source.chunk(items)
                        running[start_thread(self.run, fan_out.work(chunk), stop)] = chunk
                if not running:
                    return
                for future in wait(running, NOTICING_SECONDS, FIRST_COMPLETED).done:
                    del running[future]
                    fan_out.collector.add(future.result())
                running = {future: chunk for future, chunk in running.items() if fan_out.collector.matters(chunk)}
        finally:
            stop.set()


class AsyncDriver:
    """Runs operations on the event loop, their chunks as tasks, and blocking work in threads."""

    def __init__(self, transport: AsyncTransport, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._transport = transport
        self._sleep = sleep

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end."""
        try:
            effect = next(operation)
            while True:
                try:
                    result = await self._perform(effect)
                except Exception as exc:
                    effect = operation.throw(exc)
                else:
                    effect = operation.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            operation.close()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            return await self._transport.send(effect.call, effect.timeout)
        if isinstance(effect, Sleep):
            return await self._sleep(effect.seconds)
        if isinstance(effect, Wait):
            return await settled(effect.future, effect.timeout)
        if isinstance(effect, Work):
            return await result_of(start_thread(effect.function))
        if isinstance(effect, Take):
            return await effect.source.take_async(effect.count)
        return await self._fan_out(effect)

    async def _fan_out(self, fan_out: FanOut) -> None:
        running: dict[asyncio.Task[Outcome], Chunk] = {}
        more = True
        unwanted: list[asyncio.Task[Outcome]] = []
        try:
            while True:
                while more and len(running) < fan_out.concurrency and not fan_out.collector.stopping:
                    items = await fan_out.source.take_async(fan_out.chunk_size)
                    if more := bool(items):
                        chunk = fan_out.source.chunk(items)
                        running[asyncio.create_task(self.run(fan_out.work(chunk)))] = chunk
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
                    fan_out.collector.add(task.result())
                for task in [task for task, chunk in running.items() if not fan_out.collector.matters(chunk)]:
                    del running[task]
                    task.cancel()
                    unwanted.append(task)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, *unwanted, return_exceptions=True)
