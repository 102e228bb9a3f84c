"""One unusable image in a dynamic batch of 32: the 31 others get their right answers, each time.

Every instance of the preprocessing is first given an image that takes it a while. Whatever is sent meanwhile
waits, and is then taken as one batch; Triton's statistics say whether it was.
"""

import asyncio
import io
import time
import zlib
from collections.abc import Coroutine, Sequence
from itertools import cycle, islice
from typing import Any

from PIL import Image

from load.core.checks import Outcome
from load.core.generator import DEADLINE, count_outcomes
from load.core.inputs import Spec
from load.core.limits import Limit
from load.core.operations import EmbedImages
from load.core.sender import AsyncClient, Sample, send_async
from load.core.workload import Question
from load.faults.background_load import all_protocols, image_questions
from load.faults.reports import Report, Row
from load.faults.service import Service

BATCH = 32
GOOD = Spec(width=96, height=72, count=BATCH - 1)
BLOCKING = Spec(width=1600, height=1200, format="WEBP", count=2, seed=1)
HEAD_START = 0.02  # seconds for the blocking images to reach their processes


def poisons() -> dict[str, bytes]:
    """Unusable images by what is wrong with them."""
    jpeg, png = _encoded("JPEG"), _encoded("PNG")
    return {
        "no bytes": b"",
        "text": b"this is no image",
        "HTML": b"<html><body>not found</body></html>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "PDF": b"%PDF-1.7\n1 0 obj",
        "zeros": bytes(1000),
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "a JPEG's head": jpeg[:4],
        "half a PNG": png[: len(png) // 2],
        "a PNG of no pixels": _claiming(png, 0),
        "a PNG whose pixels are missing": _claiming(png, 200),
        "a bomb": _claiming(png, 30_000),
        "a bomb beyond 32 bits": _claiming(png, 2**31 - 1),
    }


async def poison(service: Service, *, rounds: int) -> Report:
    """So many batches, the kinds of poison in turn."""
    samples: list[Sample] = []
    rejected: list[Sample] = []
    async with all_protocols(service.urls, GOOD) as protocols:
        client, good = protocols["grpc"]
        blocking = await image_questions(client, BLOCKING)
        before = await asyncio.to_thread(service.counters)
        for number, image in enumerate(islice(cycle(poisons().values()), rounds)):
            bad, position = Question(EmbedImages([image]), lambda _answer: "it was answered"), number % BATCH
            found = await _one_batch(client, blocking, [*good[:position], bad, *good[position:]])
            rejected.append(found.pop(position))
            samples += found
        after = await asyncio.to_thread(service.counters)
    batches = after["image_preprocess"] - before["image_preprocess"]
    whole = batches.executions_by_batch.get(BATCH, 0)
    figures = {"rounds": rounds, "whole_batches": whole, "mean_batch": round(batches.mean_batch, 2)}
    notes = [f"{sample.outcome}: {sample.note}" for sample in samples if sample.note][:5]
    counts, invalid = count_outcomes(samples), sum("INVALID_ARGUMENT" in sample.note for sample in rejected)
    return Report(
        "poison",
        [
            Row("the 31 good ones", "grpc", counts, figures=figures, notes=notes),
            Row("the bad one", "grpc", count_outcomes(rejected)),
        ],
        [
            Limit("good ones answered rightly, of all", counts[Outcome.ANSWERED] / len(samples), 1.0, True),
            Limit("bad ones refused as INVALID_ARGUMENT", invalid, rounds, True),
            Limit("batches that held all 32, or nothing was shown", whole, 1, True),
        ],
    )


async def _one_batch(client: AsyncClient, blocking: Sequence[Question], batch: Sequence[Question]) -> list[Sample]:
    """Samples of a batch that is sent while the blocking images keep every instance busy."""

    def ask(question: Question) -> Coroutine[Any, Any, Sample]:
        request = client.prepare(question.operation)
        return send_async(client, request, question.check, DEADLINE, time.perf_counter())

    async with asyncio.TaskGroup() as group:
        for question in blocking:
            group.create_task(ask(question))
        await asyncio.sleep(HEAD_START)
        tasks = [group.create_task(ask(question)) for question in batch]
    return [task.result() for task in tasks]


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((64, 64)).save(buffer, kind)
    return buffer.getvalue()


def _claiming(png: bytes, side: int) -> bytes:
    """The same file, but its header promises a square of so many pixels."""
    header = png[12:16] + side.to_bytes(4, "big") * 2 + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]
