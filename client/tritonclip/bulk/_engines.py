"""Who embeds the shards: threads of this process, or workers of a Ray cluster. What they do is ``embed_shard``."""

import logging
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from copy import copy
from importlib import import_module
from itertools import islice
from typing import Any, Final

from tritonclip._client import Client
from tritonclip._errors import ConfigError, TritonClipError
from tritonclip.bulk._embedding import ShardResult, embed_shard
from tritonclip.bulk._errors import ShardError, first_line
from tritonclip.bulk._job import Job
from tritonclip.bulk._pace import PacedTransport
from tritonclip.bulk._shards import Shard

Outcome = tuple[Shard, ShardResult | TritonClipError]

SHARDS_AT_ONCE: Final = 2  # so that the end of one, when requests run out, is the beginning of another


def in_this_process(
    client: Client, job: Job, shards: Sequence[Shard], workers: int | None
) -> Generator[Outcome, None, None]:
    """Each shard with what became of it, in the order in which they end. Closing the generator ends what runs."""
    workers = workers or SHARDS_AT_ONCE
    paced = paced_client(client, workers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="tritonclip-bulk")
    running = {pool.submit(_attempt, paced, job, shard): shard for shard in shards}
    try:
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        paced.close()
        pool.shutdown(cancel_futures=True)


def on_ray(client: Client, job: Job, shards: Sequence[Shard], workers: int | None) -> Generator[Outcome, None, None]:
    """The same by tasks of a Ray cluster: the one that this process is part of, that RAY_ADDRESS names, or a new one.

    A task whose worker dies runs again elsewhere, three times at most.
    """
    try:
        ray: Any = import_module("ray")  # its annotations are partial
    except ImportError as exc:
        raise ConfigError('Ray is not installed: pip install "tritonclip[ray]"') from exc
    if not ray.is_initialized():
        ray.init(logging_level=logging.WARNING)
    task = ray.remote(num_cpus=1, max_retries=3)(_attempt_apart)
    given = ray.put((client, job))
    waiting = iter(shards)
    running: dict[Any, Shard] = {}
    try:
        while True:
            # Some wait for a CPU, which is what a cluster that can grow looks at.
            most = workers or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
            running |= {task.remote(given, shard): shard for shard in islice(waiting, max(0, most - len(running)))}
            if not running:
                return
            (done,), _ = ray.wait(list(running), num_returns=1)
            shard = running.pop(done)
            try:
                outcome = ray.get(done)
            except ray.exceptions.RayTaskError:  # what no shard and no server is to blame for
                raise
            except ray.exceptions.RayError as exc:
                died = "its worker died, and so did those that tried again"
                outcome = ShardError(f"{shard.uri}: {died}: {first_line(exc)}")
            yield shard, outcome
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def paced_client(client: Client, shards_at_once: int = 1) -> Client:
    """A client over the same connections that has no more requests in flight than the servers bear.

    The servers have been reached before, by whoever planned the run: one that does not answer now is waited for.
    """
    paced = copy(client)
    paced._transport = PacedTransport(client._transport, client._session.concurrency * shards_at_once)
    paced._session.known.reached = True
    return paced


def _attempt_apart(given: tuple[Client, Job], shard: Shard) -> ShardResult | TritonClipError:
    client, job = given
    with client:
        return _attempt(paced_client(client), job, shard)


def _attempt(client: Client, job: Job, shard: Shard) -> ShardResult | TritonClipError:
    try:
        return embed_shard(client, job, shard)
    except TritonClipError as exc:
        return exc
