"""A whole data set: what is missing of its output is embedded, shard by shard, by one of the engines.

INPUT ──_shards──> shards ──(those whose marker is there left out)──> an engine ──embed_shard──> OUTPUT
"""

import json
import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, get_args

from tqdm import tqdm

from tritonclip import _defaults
from tritonclip._client import Client
from tritonclip._errors import (
    ClosedError,
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from tritonclip.bulk._embedding import ShardResult, marker
from tritonclip.bulk._engines import Outcome, in_this_process, on_ray
from tritonclip.bulk._errors import OutputError, storing
from tritonclip.bulk._job import FILE, Job, Precision
from tritonclip.bulk._places import UNFINISHED, Place
from tritonclip.bulk._shards import Shard, find_shards

Engine = Literal["local", "ray"]

MOST_AWAY: Final = 3  # shards in a row that no server took within that time: then there is none
_AWAY = (ConnectError, DeadlineExceededError, UnavailableError)
_ENDING = (ClosedError, ConfigError, NotFoundError, OutputError, PermissionDeniedError)
"""What concerns all shards."""
_MARKERS_AT_ONCE: Final = 32
_LEFT: Final = re.compile(rf"_+(.+?)\.(?:parquet|errors\.jsonl|json)\.[0-9a-f]{{32}}{re.escape(UNFINISHED)}")
_ENGINES: Final[
    Mapping[Engine, Callable[[Client, Job, Sequence[Shard], int | None], Generator[Outcome, None, None]]]
] = {
    "local": in_this_process,
    "ray": on_ray,
}


@dataclass(frozen=True)
class Dataset:
    """An input and its output, as ``open_dataset`` has found them.

    ``finished`` are the shards whose vectors are there, as their markers say; ``missing`` those that are not, or whose
    input has changed. ``gone`` are names of shards that are there and that the input has no longer.
    """

    job: Job
    finished: tuple[ShardResult, ...]
    missing: tuple[Shard, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True)
class DatasetReport:
    """What a run did: shards written, unchanged before, and rows of those written; ``failures`` by a shard's name.

    ``failed_rows`` of the written shards are in their files of errors; ``truncated`` texts were cut to what the model
    reads. ``gone`` are the shards of the output that the input has no longer.
    """

    shards: int
    unchanged: int
    rows: int
    failed_rows: int
    truncated: int
    failures: dict[str, str]
    gone: tuple[str, ...]
    seconds: float


def open_dataset(
    client: Client,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    texts: bool = False,
    column: str | None = None,
    columns: Sequence[str] = (),
    precision: Precision = "float32",
) -> Dataset:
    """Look what there is to do; a new output is begun, with the model that the client's server has.

    ``source`` and ``output`` are paths or URIs (s3://, gs://, whatever fsspec knows). ``column`` is the one of Parquet
    that is embedded, ``columns`` are carried along (of WebDataset: entries of the .json, as strings).

    Raises ConfigError where the output is another's (model, input or options), or where the input cannot be read or has
    nothing to embed.
    """
    inputs, outputs = Place.of(os.fspath(source)), Place.of(os.fspath(output))
    manifest = client.manifest(refresh=True)
    job = Job.of(manifest, inputs, outputs, texts=texts, column=column, columns=columns, precision=precision)
    job = job.opened(outputs)
    shards = find_shards(inputs, job.modality, job.parts)
    if shards[0].kind == "files":
        job = replace(job, parts=len(shards))
    job.keep(outputs)
    with storing(f"{outputs.uri}: cannot be read"):
        files = {found.path: found.size for found in outputs.files()}
        results = _results(outputs, files)
    finished = {
        shard.name: result
        for shard in shards
        if (result := results.get(shard.name)) is not None and _is_of(result, job, shard, files)
    }
    _sweep(outputs, files, finished)
    missing = tuple(shard for shard in shards if shard.name not in finished)
    gone = tuple(sorted(results.keys() - {shard.name for shard in shards}))
    return Dataset(job, tuple(finished.values()), missing, gone)


def embed_dataset(
    client: Client,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    texts: bool = False,
    column: str | None = None,
    columns: Sequence[str] = (),
    precision: Precision = "float32",
    engine: Engine = "local",
    workers: int | None = None,
    patience: float = _defaults.PATIENCE,
    progress: bool = False,
) -> DatasetReport:
    """Embed what is missing of an output; ``open_dataset`` says what source, output and options are.

    ``workers`` shards are embedded at a time: in this process 2 by default, on Ray one for each CPU of the cluster.
    Each worker has up to ``Client.concurrency`` requests in flight for a shard, fewer where the servers refuse them. A
    request that is refused, or that no server takes, is repeated for ``patience`` seconds.

    A shard that cannot be read, or that the servers fail on, is in ``failures`` and stops no other; the next run tries
    it again. Where three in a row find no server, the run ends with that error. Raises OutputError where the output
    cannot be written, ConfigError where the server's model changes, and what ``open_dataset`` raises; shards that were
    written before stay, and the next run goes on from there.
    """
    started = time.perf_counter()
    if engine not in get_args(Engine):
        raise ConfigError(f"engine must be local or ray, not {engine!r}")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    patient = client.with_timeout(patience)
    dataset = open_dataset(client, source, output, texts=texts, column=column, columns=columns, precision=precision)
    done: list[ShardResult] = []
    failures: dict[str, str] = {}
    away = 0
    bar = tqdm(total=len(dataset.missing), unit="shard", disable=not progress)
    with closing(bar), closing(_ENGINES[engine](patient, dataset.job, dataset.missing, workers)) as outcomes:
        for shard, outcome in outcomes:
            away = away + 1 if isinstance(outcome, _AWAY) else 0
            if isinstance(outcome, ShardResult):
                done.append(outcome)
            elif isinstance(outcome, _ENDING) or away == MOST_AWAY:
                raise outcome
            else:
                failures[shard.name] = str(outcome)
            bar.update()
    outputs = Place.of(dataset.job.output)
    with storing(f"{outputs.uri}: cannot be read"):
        _sweep(outputs, [found.path for found in outputs.files()], [result.name for result in done])
    return DatasetReport(
        len(done),
        len(dataset.finished),
        sum(result.rows for result in done),
        sum(result.failed for result in done),
        sum(result.truncated for result in done),
        failures,
        dataset.gone,
        time.perf_counter() - started,
    )


def finished_shards(place: Place) -> list[ShardResult]:
    """The shards of an output whose vectors are there, in the order of their names."""
    files = {found.path: found.size for found in place.files()}
    results = _results(place, files)
    return [results[name] for name in sorted(results) if files.get(f"{name}.parquet") == results[name].bytes]


def _results(outputs: Place, files: Mapping[str, int]) -> dict[str, ShardResult]:
    """What the markers say, by the shard's name; one that cannot be read counts as none."""
    names = [path.removesuffix(".parquet") for path in files if path.endswith(".parquet")]
    with ThreadPoolExecutor(_MARKERS_AT_ONCE, thread_name_prefix="tritonclip-bulk") as pool:
        found = pool.map(partial(_result, outputs), [name for name in names if marker(name) in files])
        return {result.name: result for result in found if result is not None}


def _result(outputs: Place, name: str) -> ShardResult | None:
    try:
        result = ShardResult(**json.loads(outputs.below(marker(name)).read()))
    except (ValueError, TypeError):
        return None
    return result if result.name == name else None


def _is_of(result: ShardResult, job: Job, shard: Shard, files: Mapping[str, int]) -> bool:
    """Whether this shard as it is now, and whole, is what the marker speaks of."""
    return (
        result.fingerprint == job.fingerprint
        and result.input == shard.identity
        and files[f"{shard.name}.parquet"] == result.bytes
    )


def _sweep(outputs: Place, files: Iterable[str], finished: Iterable[str]) -> None:
    """Delete what killed workers left of shards that are finished now; others may be somebody's work."""
    names = {*finished, FILE.removeprefix("_").removesuffix(".json")}
    for path in files:
        folder, slash, last = path.rpartition("/")
        if (match := _LEFT.fullmatch(last)) and f"{folder}{slash}{match[1]}" in names:
            with suppress(OSError):
                outputs.below(path).delete()
