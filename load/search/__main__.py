"""`python -m load.search`: indexes of several sizes, searched exactly and by ANN, beside numpy and faiss in one run.

Prints a table and the aims that are met or missed, and writes build/search.json.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from load.core.machine import describe_machine, write_json
from load.core.turns import say
from load.search import ingest
from load.search.searching import measure
from load.search.vectors import Clustered

RESULTS = Path("build/search.json")
EXACT_AIM = 1.3  # times numpy's matrix product, at every size
OPENING_AIM = (100_000, 2000.0)  # rows, ms to the first answer
ANN_AIM = (1_000_000, 0.95, 10.0)  # rows, recall@10, ms
COLUMNS = ("rows", "search", "p50 ms", "p99 ms", "16 clients: p50 ms", "p99 ms", "queries/s", "recall@10")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["ingest"]:
        return ingest.main(arguments[1:])
    command = argparse.ArgumentParser(prog="python -m load.search", description=__doc__, epilog="Other: ingest.")
    add = command.add_argument
    add("--rows", type=int, nargs="+", default=(10_000, 100_000, 1_000_000), metavar="N", help="(default: %(default)s)")
    add("--width", type=int, default=640, help="of a vector (default: %(default)s)")
    add("--queries", type=int, default=200, metavar="N", help="of each measurement (default: %(default)s)")
    add("--rounds", type=int, default=3, help="(default: %(default)s)")
    options = command.parse_args(arguments)
    if min(*options.rows, options.width, options.queries, options.rounds) <= 0:
        command.error("numbers must be above 0")
    sizes = []
    for rows in options.rows:
        say(f"{rows:,} rows")
        sizes.append(_in_own_process(Clustered(rows, options.width), options.queries, options.rounds))
        print("\n".join(table(sizes[-1:])), flush=True)
    print("\n".join(aims(sizes)))
    write_json({"machine": describe_machine(), "width": options.width, "sizes": sizes}, RESULTS)
    return 0


def _in_own_process(data: Clustered, queries: int, rounds: int) -> dict[str, Any]:
    spawn = multiprocessing.get_context("spawn")
    with TemporaryDirectory(prefix="tritonclip-search-") as folder, ProcessPoolExecutor(1, spawn) as process:
        return process.submit(measure, Path(folder) / "index", data, queries, rounds).result()


def table(sizes: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Of each size a line for each way to search, and one of what the index takes."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for size in sizes:
        for kind in ("exact", "ann"):
            found = size[kind]
            alone, many = found["clients_1"], found["clients_16"]
            for name, each in alone.items():
                if "p50_ms" in each:
                    recalls = {"index": found["recall"], "faiss_ivf": found.get("faiss", {}).get("recall")}
                    cells = (each["p50_ms"], each["p99_ms"], *many[name].values(), recalls.get(name, 1))
                    yield f"| {size['rows']:,} | {kind}, {name} | {' | '.join(map(str, cells))} |"
        parts = {name: value for name, value in size.items() if isinstance(value, int | float)}
        yield "; ".join(f"{name} {value}" for name, value in (parts | size["ann"]["build"]).items())


def aims(sizes: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Each aim with what was found."""
    for size in sizes:
        rows, exact, ann = size["rows"], size["exact"], size["ann"]
        for clients in ("clients_1", "clients_16"):
            yield _aim(
                f"{rows:,} rows, exact ÷ numpy, {clients}", exact[clients]["index_over_numpy"]["median"], EXACT_AIM
            )
        if rows == OPENING_AIM[0]:
            yield _aim(f"{rows:,} rows, ms to the first answer", size["first_answer_ms"], OPENING_AIM[1])
        if rows == ANN_AIM[0]:
            yield _aim(f"{rows:,} rows, ANN: 1 - recall@10", round(1 - ann["recall"], 4), round(1 - ANN_AIM[1], 4))
            yield _aim(f"{rows:,} rows, ANN: p50 ms", ann["clients_1"]["index"]["p50_ms"], ANN_AIM[2])


def _aim(name: str, value: float, most: float) -> str:
    return (
        f"{name}: {value} (at most {most}: {'met' if value <= most else f'missed by a factor of {value / most:.2f}'})"
    )


if __name__ == "__main__":
    sys.exit(main())
