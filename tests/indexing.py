"""``tritonclip index`` in processes of its own, and what there is in an index."""

import csv
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from tritonclip.search import Hit, Index

ROOT = Path(__file__).resolve().parents[1]
BLOCK_ROWS = 16  # so that a few hundred images are many commits
PROGRAM = """
import sys
from tritonclip.cli import main
from tritonclip.search import _lock, _writer
_writer.BLOCK_ROWS = int(sys.argv[1])
_lock.STALE_SECONDS = float(sys.argv[2])
sys.stdin.readline() or sys.exit("never told to begin")
sys.exit(main(sys.argv[3:]))
"""
POWERS = "-dac_override,-dac_read_search"
AS_ANYBODY = ("setpriv", f"--inh-caps={POWERS}", f"--bounding-set={POWERS}") if os.geteuid() == 0 else ()
"""Before a command, so that permissions hold for it, which do not for root."""


def file_limit(size: int) -> tuple[str, ...]:
    """Before a command, so that none of its files grows over a size: to who writes that looks like a full disk."""
    return ("prlimit", f"--fsize={size}:{size}")


class IndexCommand:
    """The command with small blocks; it is loaded at once, and begins when it is told to (`begin`)."""

    def __init__(self, url: str, *arguments: str | Path, stale_seconds: float = 900, prefix: Sequence[str] = ()):
        options = [str(BLOCK_ROWS), str(stale_seconds), "index", *map(str, arguments), "--url", url]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", PROGRAM, *options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self) -> "IndexCommand":
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self

    def kill(self) -> int:
        """End it as nothing else does; its exit code, which is another one where it had ended by itself."""
        self.process.kill()
        self.process.communicate()
        return self.process.returncode

    def end(self) -> tuple[int, str]:
        """Wait for its end: the exit code, and what it said on stderr."""
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


def run_index(url: str, *arguments: str | Path, stale_seconds: float = 900, prefix: Sequence[str] = ()) -> str:
    """Run the command to its end; what it said on stderr, its exit code before it."""
    code, said = IndexCommand(url, *arguments, stale_seconds=stale_seconds, prefix=prefix).begin().end()
    return f"{code} {said}"


def all_hits(index: Index) -> list[Hit]:
    """Every row, as a search finds it."""
    query = np.ones(index.info().width, np.float32)
    return list(index.search(vector=query, top_k=10_000, exact=True).hits)


def uris(index: Index) -> set[str]:
    """Of all rows; no row is there twice."""
    hits = all_hits(index)
    found = {hit.uri for hit in hits}
    assert len(found) == len(hits) == len({hit.id for hit in hits}) == index.info().rows
    return found


def vectors(index: Index, into: Path) -> dict[str, NDArray[np.float32]]:
    """Of all rows, by uri."""
    index.export_parquet(into)
    table = pyarrow.parquet.read_table(into)
    return {
        uri: np.asarray(vector, np.float32)
        for uri, vector in zip(table["uri"].to_pylist(), table["vector"].to_pylist(), strict=True)
    }


def reasons(index: Index) -> dict[str, str]:
    """Why images are not in the index, by the last part of their uri."""
    return {os.path.basename(row["uri"]): row["reason"] for row in index.errors().to_pylist()}


def names(index: Index) -> set[str]:
    return {uri.rpartition("/")[2] for uri in uris(index)}


def metadata(index: Index) -> dict[str, dict[str, object]]:
    return {hit.uri.rpartition("/")[2]: dict(hit.metadata) for hit in all_hits(index)}


def counts(index: Index, *sources: str | Path, **options: bool) -> tuple[int, int, int, int, int]:
    """added, changed, unchanged, failed, pruned"""
    report = index.add(sources, **options)
    return report.added, report.changed, report.unchanged, report.failed, report.pruned


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path
