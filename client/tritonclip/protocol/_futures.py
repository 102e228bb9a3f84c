"""Futures between threads and event loops: the one kind of waiting that all transports and both drivers share."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# A thread that blocks without end may never notice Ctrl-C: the system may hand the signal to a library's thread, or to
# this one just before it blocks. Python then raises KeyboardInterrupt no sooner than the main thread next wakes.
NOTICING_SECONDS: Final = 0.2


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
        return blocking_result(beginning)
    except BaseException:
        beginning.add_done_callback(_give_up)
        raise


def blocking_result(future: Future[T]) -> T:
    """A future's result; Ctrl-C ends the wait, whichever thread the signal came to."""
    while True:
        try:
            return future.result(NOTICING_SECONDS)
        except TimeoutError:
            if future.done():  # it may have failed with such an error itself
                return future.result()


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
        if future.set_running_or_notify_cancel():  # else nobody waits for it any more
            future.set_exception(exc)
    else:
        if future.set_running_or_notify_cancel():
            future.set_result(result)
