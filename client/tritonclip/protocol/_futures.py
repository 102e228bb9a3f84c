"""Futures between threads and event loops: the one kind of waiting that all transports and both drivers share."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def start_thread(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> Future[T]:
    """Run a function in a thread that nobody waits for when the interpreter ends, unlike an executor's."""
    future: Future[T] = Future()

    def run() -> None:
        _settle(future, function, *arguments, **options)

    threading.Thread(target=run, name="tritonclip", daemon=True).start()
    return future


def answered(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> Future[T]:
    """What a function returns or raises, as a future that is done; an interruption comes through at once."""
    future: Future[T] = Future()
    try:
        future.set_result(function(*arguments, **options))
    except Exception as exc:
        future.set_exception(exc)
    return future


def begun(begin: Callable[P, Future[T]], *arguments: P.args, **options: P.kwargs) -> Future[T]:
    """Begin something whose future ``begin`` gives, where Ctrl-C cannot strike in the middle of it.

    In the main thread an interruption is raised anywhere, also between a library's taking of a lock and its release,
    and leaves it unusable. Other threads are never interrupted, and neither is an event loop under ``asyncio.run``.
    """
    if threading.current_thread() is not threading.main_thread() or asyncio._get_running_loop() is not None:
        return begin(*arguments, **options)
    beginning = start_thread(begin, *arguments, **options)
    try:
        return beginning.result()
    except BaseException:
        beginning.add_done_callback(_give_up)
        raise


async def settled(future: Future[T], timeout: float | None = None) -> None:  # noqa: ASYNC109 - None of its own
    """Wait on the running event loop until a future is done, or for ``timeout`` seconds."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def wake(_: "Future[Any]") -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(wake)
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await done.wait()


async def result_of(future: Future[T]) -> T:
    """A future's result, awaited; whoever gives up waiting cancels it."""
    try:
        await settled(future)
        return future.result()
    finally:
        future.cancel()


def _give_up(beginning: Future[Future[T]]) -> None:
    if beginning.exception() is None:
        beginning.result().cancel()


def _settle(future: Future[T], function: Callable[..., T], *arguments: Any, **options: Any) -> None:
    try:
        result = function(*arguments, **options)
    except BaseException as exc:
        future.set_exception(exc)
    else:
        future.set_result(result)
