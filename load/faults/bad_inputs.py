"""One unusable image in a dynamic batch of 32: the 31 others get their right answers, each time.

Every instance of the preprocessing is first given a picture that takes it a while. Whatever is sent meanwhile
waits, and is then taken as one batch; Triton's statistics say whether it was.
"""

import asyncio
import io
import time
import zlib
from collections import Counter
from itertools import cycle, islice

from PIL import Image

from load.core.checks import Outcome, Sample
from load.core.clients_asyncio import Failed, GrpcTarget, Prepared, RequestProblem
from load.core.generator import DEADLINE, Traffic
from load.core.inputs import Spec, pictures
from load.core.operations import EmbedImages
from load.core.questions import Question, about_images
from load.core.triton_stats import Statistics
from load.faults.reports import Limit, Report, Row
from load.faults.service import Service

BATCH = 32
GOOD = Spec(width=96, height=72, count=BATCH - 1)
BLOCKING = Spec(width=1600, height=1200, format="WEBP", count=2, seed=1)
HEAD_START = 0.02  # seconds for the blocking pictures to reach their processes


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
    target, statistics = GrpcTarget(service.grpc_url), Statistics(service.grpc_url)
    try:
        traffic = Traffic(target, ())
        good = await about_images(target, pictures(GOOD))
        blocking = await about_images(target, pictures(BLOCKING))
        poisoned = [target.prepare(EmbedImages([image])) for image in poisons().values()]
        before = statistics.read()["image_preprocess"]
        samples: list[Sample] = []
        codes: Counter[str] = Counter()
        for number, bad in enumerate(islice(cycle(poisoned), rounds)):
            samples += await _one_batch(traffic, target, good, blocking, bad, number % BATCH, codes)
        batches = statistics.read()["image_preprocess"] - before
    finally:
        statistics.close()
        await target.close()
    counts = Counter(sample.outcome for sample in samples)
    whole = batches.batches[BATCH].executions if BATCH in batches.batches else 0
    figures = {"rounds": rounds, "whole_batches": whole, "mean_batch": round(batches.mean_batch, 2)}
    notes = [f"{sample.outcome}: {sample.note}" for sample in samples if sample.note][:5]
    rejected = Row("the bad one", "grpc", dict.fromkeys(Outcome, 0) | {Outcome.FAILED: codes.total()})
    return Report(
        "poison",
        [Row("the 31 good ones", "grpc", {o: counts[o] for o in Outcome}, figures=figures, notes=notes), rejected],
        [
            Limit("good ones answered rightly, of all", counts[Outcome.ANSWERED] / len(samples), 1.0, True),
            Limit("bad ones refused as INVALID_ARGUMENT", codes["INVALID_ARGUMENT"], rounds, True),
            Limit("batches that held all 32, or nothing was shown", whole, 1, True),
        ],
    )


async def _one_batch(
    traffic: Traffic,
    target: GrpcTarget,
    good: list[Question],
    blocking: list[Question],
    bad: Prepared,
    position: int,
    codes: Counter[str],
) -> list[Sample]:
    """Samples of the good ones; the code of the bad one, which comes at `position`, is counted."""

    async def ask_badly() -> None:
        try:
            await target.send(bad, DEADLINE)
        except Failed as failure:
            codes[failure.code] += 1
        except RequestProblem as problem:
            codes[type(problem).__name__] += 1
        else:
            codes["answered"] += 1

    async with asyncio.TaskGroup() as group:
        for question in blocking:
            group.create_task(traffic.ask(question, time.perf_counter()))
        await asyncio.sleep(HEAD_START)
        tasks = [group.create_task(traffic.ask(question, time.perf_counter())) for question in good[:position]]
        group.create_task(ask_badly())
        tasks += [group.create_task(traffic.ask(question, time.perf_counter())) for question in good[position:]]
    return [task.result() for task in tasks]


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((64, 64)).save(buffer, kind)
    return buffer.getvalue()


def _claiming(png: bytes, side: int) -> bytes:
    """The same file, but its header promises a square of so many pixels."""
    header = png[12:16] + side.to_bytes(4, "big") * 2 + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]
