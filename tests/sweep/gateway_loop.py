"""How long one request keeps the gateway from all others: the longest block of its event loop, by kind of request.

    python -m tests.sweep.gateway_loop [--json FILE]

The gateway runs in this process, over an engine that answers at once, so that nothing but the gateway's own work is
measured. A task that wants to run every few milliseconds says how much processor time the process took between two of
its turns: so other programs on this machine are left out. The requests are the worst that a body may hold: what keeps a
parser, a decoder or a writer busy for longest. Beside the block stand the processor time until the answer, and the
memory that it took at most.
"""

import argparse
import asyncio
import base64
import gzip
import json
import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np

from tritonclip import Classifications, Embeddings, Manifest, Prediction
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.http.server import calm
from tritonclip_server.gateway.inference.engine import OnError, OnTruncation
from tritonclip_server.gateway.settings import Settings

MIB = 2**20
WIDTH = 640
BODY = Settings().limits.body_bytes - 1024
TICK_SECONDS = 0.002
EMBED, SIMILAR, CLASSIFY, RERANK = "/v1/embeddings", "/v1/similarity", "/v1/classify", "/v1/rerank"


@dataclass(frozen=True)
class Block:
    """What one request did to the event loop."""

    kind: str
    status: int
    block_ms: float
    cpu_ms: float
    peak_mib: float


@dataclass(frozen=True)
class Case:
    """One request: path, body, and its headers."""

    path: str
    body: bytes
    headers: dict[str, str]


def of_json(path: str, body: bytes, **headers: str) -> Case:
    """A JSON request."""
    return Case(path, body, {"content-type": "application/json"} | headers)


def asking(path: str, **document: object) -> Case:
    """A JSON request for a document."""
    return of_json(path, json.dumps(document).encode())


def of_form(path: str, *parts: tuple[str, bytes]) -> Case:
    """A form with files."""
    written = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\n\r\n%b\r\n' % (name.encode(), data)
        for name, data in parts
    )
    return Case(path, written + b"--x--\r\n", {"content-type": "multipart/form-data; boundary=x"})


def of_fields(path: str, *fields: tuple[str, bytes]) -> Case:
    """A form without files."""
    written = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)
        for name, value in fields
    )
    return Case(path, written + b"--x--\r\n", {"content-type": "multipart/form-data; boundary=x"})


def png(size: int, chunks: bytes = b"") -> bytes:
    """A PNG of so many bytes, most of them one chunk of metadata, or in chunks as given."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    filling = chunks or chunk(b"prVt", os.urandom(max(0, size - 200)))
    return b"\x89PNG\r\n\x1a\n" + header + filling + chunk(b"IDAT", zlib.compress(bytes(72))) + chunk(b"IEND", b"")


def images(count: int, size: int, chunks: bytes = b"") -> list[str]:
    """As many images as base64."""
    return [base64.b64encode(png(size, chunks)).decode() for _ in range(count)]


def cases() -> dict[str, Callable[[], Case]]:
    """Requests by kind. They are made one at a time: together they would take all memory."""
    tiny = struct.pack(">I4sI", 0, b"prVt", zlib.crc32(b"prVt"))
    return {
        "nothing but numbers": lambda: of_json(EMBED, b'{"input": [' + b"0," * (BODY // 2 - 10) + b"0]}"),
        "short strings": lambda: of_json(EMBED, b'{"input": [' + b'"",' * (BODY // 3 - 10) + b'""]}'),
        "empty lists": lambda: of_json(EMBED, b'{"input": [' + b"[]," * (BODY // 3 - 10) + b"[]]}"),
        "as many values as may be": lambda: of_json(EMBED, b'{"input": [' + b"[]," * 60_000 + b"[]]}"),
        "unknown fields": lambda: of_json(EMBED, b"{" + b",".join(b'"%d":0' % n for n in range(60_000)) + b"}"),
        "quotes": lambda: of_json(EMBED, b'"' * BODY),
        "a string of escapes": lambda: of_json(EMBED, b'{"input": "' + b'\\"' * (BODY // 2 - 20) + b'"}'),
        "half of a surrogate": lambda: of_json(EMBED, b'{"input": ["\\ud800", "' + b"a" * (BODY - 100) + b'"]}'),
        "blanks before a text": lambda: of_json(EMBED, b'{"input": "' + b" " * (BODY - 50) + b'"}'),
        "64 texts at their limit": lambda: asking(EMBED, input=[f"{n:03}" * 3333 for n in range(64)]),
        "2048 texts": lambda: asking(EMBED, input=[f"a photo of thing {n}" for n in range(2048)]),
        "2048 texts, as many bytes as may be": lambda: asking(EMBED, input=[f"{n:04} " * 1980 for n in range(2048)]),
        "2048 texts like base64": lambda: asking(EMBED, input=[f"{n:04}" * 300 for n in range(2048)]),
        "1000 texts of 590 token ids": lambda: asking(
            EMBED, input=[[n % 90, n // 90, *[15339] * 588] for n in range(1000)]
        ),
        "1000 documents that come back": lambda: asking(
            RERANK,
            query="a",
            return_documents=True,
            documents=[{"text": f"text {n}", "of": [n] * 9} for n in range(1000)],
        ),
        "64 images by 1000 labels": lambda: asking(
            CLASSIFY, images=images(64, 300), labels=[f"thing {n}" for n in range(1000)]
        ),
        "64 images by 2048 texts": lambda: asking(
            SIMILAR, images=images(64, 300), texts=[f"thing {n}" for n in range(2048)]
        ),
        "2000 fields of a form": lambda: of_fields(EMBED, *[("text", f"thing {n}".encode()) for n in range(2000)]),
        "64 texts like data URLs": lambda: asking(EMBED, input=[f"x {n} " + "data:" * 1999 for n in range(64)]),
        "64 images of 220 KiB": lambda: asking(EMBED, input=images(64, 220 * 1024), modality="image"),
        "2 images of 7 MiB": lambda: asking(EMBED, input=images(2, 7 * MIB), modality="image"),
        "20 images of tiny chunks": lambda: asking(EMBED, input=images(20, 0, tiny * 58_000), modality="image"),
        "base64 with line breaks": lambda: asking(
            EMBED, input=base64.encodebytes(png(7 * MIB)).decode(), modality="image"
        ),
        "base64, percent-encoded": lambda: asking(EMBED, input="data:image/png;base64," + "%2B" * (BODY // 3 - 50)),
        "a data URL of escapes": lambda: asking(EMBED, input="data:image/png," + "%00" * (BODY // 3 - 50)),
        "a file of 20 MiB": lambda: of_form(EMBED, ("image", png(BODY - 500))),
        "64 files": lambda: of_form(EMBED, *[("image", png(300 * 1024))] * 64),
        "a form of many parts": lambda: of_form(EMBED, *[("image", b"")] * 200_000),
        "a form of boundaries": lambda: of_form(EMBED, ("image", b"\r\n--" * (BODY // 4 - 50))),
        "gzip, a bomb": lambda: of_json(EMBED, gzip.compress(bytes(100 * MIB)), **{"content-encoding": "gzip"}),
        "gzip, 20 MiB": lambda: of_json(
            EMBED,
            gzip.compress(b'{"input": "' + base64.b64encode(os.urandom(14 * MIB)) + b'"}', 1),
            **{"content-encoding": "gzip"},
        ),
        "a template of 4 MiB": lambda: asking(
            CLASSIFY, image="AAAA", labels=["a" * 99, "b"], template="{}" * (2 * MIB)
        ),
        "labels in a string of commas": lambda: asking(CLASSIFY, image="AAAA", labels="a," * (BODY // 2 - 100)),
        "64 images by 1000 stored labels": lambda: asking(CLASSIFY, images=images(64, 300), label_set="thousand"),
        "32 images by 32 long labels": lambda: asking(
            CLASSIFY, images=images(32, 300), labels=[f"{n:04}" * 2400 for n in range(32)], template="{}"
        ),
        "32 images by 32 texts": lambda: asking(SIMILAR, images=images(32, 300), texts=[str(n) for n in range(32)]),
    }


class Instant:
    """An engine that knows its answers beforehand, and lets others have their turn, as whatever asks a server does."""

    def __init__(self) -> None:
        features = np.random.default_rng(0).standard_normal((8192, WIDTH), np.float32)  # no two are the same
        self._features = features / np.linalg.norm(features, axis=1, keepdims=True)
        self._given = 0  # rows of them
        self._labels = tuple(Prediction(f"label {n}", 0.001, 0.1, 10.0, n) for n in range(1000))
        about = {"variant": "instant", "embedding_width": WIDTH, "context_length": 77, "logit_scale": 100.0}
        sets = {"thousand": {"labels": 1000, "templates": ["{}"], "names": [label.label for label in self._labels]}}
        self._manifest = Manifest.from_document(about | {"fingerprint": "instant", "label_sets": sets})

    def with_timeout(self, timeout: float) -> "Instant":
        return self

    def with_headers(self, headers: Mapping[str, str]) -> "Instant":
        return self

    async def manifest(self, *, refresh: bool = False) -> Manifest:
        return self._manifest

    async def embed_images(self, images: Sequence[bytes], *, on_error: OnError = "raise") -> Embeddings:
        await asyncio.sleep(0)
        return Embeddings(np.full((len(images), WIDTH), WIDTH**-0.5, np.float32))

    async def embed_texts(
        self, texts: Sequence[str], *, on_error: OnError = "raise", on_truncation: OnTruncation = "warn"
    ) -> Embeddings:
        await asyncio.sleep(0)
        start = self._given if self._given + len(texts) <= len(self._features) else 0
        self._given = start + len(texts)
        return Embeddings(self._features[start : start + len(texts)])

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        await asyncio.sleep(0)
        return [77] * len(texts)

    async def classify(
        self, images: Sequence[bytes], *, label_set: str, top_k: int | None = None, on_error: OnError = "raise"
    ) -> Classifications:
        await asyncio.sleep(0)
        return Classifications((self._labels[:top_k],) * len(images))

    async def aclose(self) -> None:
        pass


async def measure(kind: str, case: Case) -> Block:
    """Send one request, after one that warms everything up, and watch the loop meanwhile."""
    app = create_app(Instant(), Settings())
    longest = 0.0
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        while not done.is_set():
            began = time.process_time()
            await asyncio.sleep(TICK_SECONDS)
            longest = max(longest, time.process_time() - began)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", timeout=120) as http:
        await http.post(EMBED, json={"input": ["warm", "data:image/png;base64," + images(1, 300)[0]]})
        await http.post(CLASSIFY, json={"image": images(1, 300)[0], "labels": ["warm", "up"]})
        await http.post(EMBED, json={"input": [[1], [2]]})
        before = resident_mib()
        watching = asyncio.create_task(watch())
        await asyncio.sleep(10 * TICK_SECONDS)
        longest, began = 0.0, time.process_time()
        answer = await http.post(case.path, content=case.body, headers=case.headers)
        seconds = time.process_time() - began
        await asyncio.sleep(2 * TICK_SECONDS)
        done.set()
        await watching
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return Block(kind, answer.status_code, round(1000 * longest, 1), round(1000 * seconds, 1), round(max(0.0, peak), 1))


def resident_mib() -> float:
    """What this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / MIB


def main(arguments: list[str] | None = None) -> int:
    """Measure each kind in a process of its own, and print a table."""
    command = argparse.ArgumentParser(prog="python -m tests.sweep.gateway_loop", description=__doc__.splitlines()[0])
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    command.add_argument("--kind", help="measure this kind alone, in this process, and print it as JSON")
    options = command.parse_args(arguments)
    known = cases()
    if options.kind is not None:
        calm()
        print(json.dumps(asdict(asyncio.run(measure(options.kind, known[options.kind]())))))
        return 0
    print(f"{'kind':36} {'status':>6} {'block ms':>9} {'cpu ms':>8} {'peak MiB':>9}")
    rows = []
    for kind in known:
        program = [sys.executable, "-m", "tests.sweep.gateway_loop", "--kind", kind]
        row = Block(**json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout))
        print(f"{row.kind:36} {row.status:6} {row.block_ms:9.1f} {row.cpu_ms:8.1f} {row.peak_mib:9.1f}", flush=True)
        rows.append(asdict(row))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
