"""Throughput and latency of a blocking call, driven from threads."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np


def throughput(call: Callable[[int], object], clients: int, seconds: float, warm_up: float = 2.0) -> float:
    """Calls per second of `clients` closed loops, after a warm-up.

    `call` gets a running number. The rate is the least-squares slope of finished calls over time: answers come in whole
    batches, and counting them between two moments would be off by as much as a batch at either end.
    """
    numbers, finished, failures = itertools.count(), list[float](), list[BaseException]()
    started = time.perf_counter()
    end = started + warm_up + seconds

    def loop() -> None:
        try:
            while time.perf_counter() < end:
                call(next(numbers))
                finished.append(time.perf_counter())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=loop, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    moments = np.sort([moment for moment in finished if started + warm_up <= moment <= end])
    if len(moments) < 2:
        raise RuntimeError(f"only {len(moments)} calls finished in {seconds:.0f} s: measure for longer")
    return float(np.polyfit(moments - moments[0], np.arange(len(moments)), 1)[0])


def latencies(call: Callable[[int], object], calls: int) -> dict[str, float]:
    """Percentiles of one client's calls, one after the other, in milliseconds."""
    taken = []
    for number in range(calls):
        started = time.perf_counter()
        call(number)
        taken.append(1000 * (time.perf_counter() - started))
    return {f"p{percent}_ms": round(float(np.percentile(taken, percent)), 2) for percent in (50, 95, 99)}


def interleaved(calls: Sequence[Callable[[int], object]], count: int) -> list[list[float]]:
    """What each of several calls takes, in milliseconds, `count` times in turn: whatever disturbs one disturbs all."""
    taken: list[list[float]] = [[] for _ in calls]
    for number in range(-1, count):
        for call, times in zip(calls, taken, strict=True):
            started = time.perf_counter()
            call(max(0, number))
            if number >= 0:  # the first is a warm-up
                times.append(1000 * (time.perf_counter() - started))
    return taken
