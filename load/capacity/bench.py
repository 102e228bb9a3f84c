"""`make bench`, or `python -m load.capacity bench`: what serving costs, as ratios within one run.

Real architecture, random weights (they do not change the speed), 640x480 JPEGs and captions, one a request, 16 requests
in flight: the bare encoders, gRPC and the gateway in turn; texts; label sets. Prints the figures and writes
build/bench.json.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.nn import functional

from load.capacity.baseline import BareEncoder, random_image
from load.capacity.compare import by_protocol, open_gateway
from load.capacity.deployment import Embedded, embedded
from load.capacity.meter import open_meter
from load.capacity.workload import Load, Workload
from load.core.checks import check_vectors
from load.core.inputs import Spec, images
from load.core.machine import describe_machine, write_json
from load.core.operations import EmbedTexts
from load.core.sender import AsyncClient
from load.core.turns import in_turn, ratio, say
from load.core.workload import Question
from tritonclip import Client, Manifest
from tritonclip_server.export.classifiers import publish_classifier
from tritonclip_server.export.encoders import TrainedHead
from tritonclip_server.export.label_sets import add_label_set
from tritonclip_server.export.label_sources import Prompts
from tritonclip_server.export.pipeline import MODELS_FOLDER, Request, export, is_current
from tritonclip_server.export.variants import default_variant
from tritonclip_server.repository.label_sets import LabelSet

CLIENTS = 16
ROUNDS = 3
RESULTS = Path("build/bench.json")
CAPTION = "a photo of object number {}"
KNOWN_CAPTIONS = 8
LABEL_SETS = (10, 100, 1000, 10_000)
TRAINED = 1000  # classes of a trained head
PROMPTS = 1000
Rates = Mapping[str, Sequence[float]]
Turns = dict[str, Callable[[], Awaitable[float]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m load.capacity bench", description=__doc__)
    command.add_argument("--seconds", type=float, default=30.0, help="of each measurement (default: %(default)s)")
    options = command.parse_args(arguments)
    request = Request(default_variant(), host="cpu", random=True)
    repository = MODELS_FOLDER / request.folder_name
    if not is_current(request, repository):
        export(request, repository, say)
    manifest = json.loads((repository / "manifest.json").read_text(encoding="utf-8"))
    publish_random_heads(repository, manifest["embedding_width"])
    with embedded(repository, Path("build/bench-triton.log")) as deployment:
        results = asyncio.run(measure(deployment, options.seconds))
    for name, value in results.items():
        print(f"{name:34} {value}")
    write_json(results, RESULTS)
    return 0


async def measure(deployment: Embedded, seconds: float) -> dict[str, Any]:
    """Everything the benchmark reports."""
    manifest = deployment.manifest
    return {
        **await _images(deployment, seconds),
        **await _texts(deployment, seconds / 3),
        **await _label_sets(deployment, max(5, int(2 * seconds))),
        "variant": manifest.variant,
        "precision": manifest.precision,
        "machine": describe_machine(),
    }


async def _images(deployment: Embedded, seconds: float) -> dict[str, Any]:
    """The bare encoder, gRPC and the gateway; then one client alone by both ways."""
    say("bare image encoder at each batch size")
    async with AsyncExitStack() as stack:
        image = random_image(deployment.manifest.image_size or 0)
        bare = stack.enter_context(closing(BareEncoder(deployment.artifact("image_encoder"), image)))
        urls = {"grpc": deployment.grpc_url, "gateway": open_gateway(stack, deployment)}
        many = await by_protocol(stack, deployment, urls, Workload(), Load(CLIENTS), seconds)
        alone = await by_protocol(stack, deployment, urls, Workload(), Load(1), seconds / 3)
        rates = await in_turn({"bare": bare.measure(seconds), **many}, ROUNDS)
        await in_turn(alone, ROUNDS)
    latency = {
        name: {f"{percentile}_ms": found.latency_ms(percentile) for percentile in ("p50", "p95", "p99")}
        for name, found in alone.items()
    }
    return image_figures(rates, latency) | {
        "bare_best_batch": bare.batch_size,
        "bare_images_per_s_by_batch": bare.by_batch,
        "clients": CLIENTS,
        "mean_batch": round(many["grpc"].mean_batch("image_encoder"), 2),
    }


def image_figures(rates: Rates, latency: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """From images/s by round of bare, grpc and gateway, and from the latencies of one client by the last two."""
    served, gateway = ratio(rates["grpc"], rates["bare"]), ratio(rates["gateway"], rates["grpc"])
    added = {name: round(latency["gateway"][name] - latency["grpc"][name], 2) for name in ("p50_ms", "p99_ms")}
    return {
        "bare_images_per_s": _median(rates["bare"]),
        "served_images_per_s": _median(rates["grpc"]),
        "efficiency": served["median"],
        "efficiency_by_round": served["rounds"],
        "latency_at_concurrency_1": dict(latency["grpc"]),
        "gateway_images_per_s": _median(rates["gateway"]),
        "gateway_direct_images_per_s": _median(rates["grpc"]),
        "gateway_efficiency": gateway["median"],
        "gateway_efficiency_by_round": gateway["rounds"],
        "gateway_added_latency": added,
    }


async def _texts(deployment: Embedded, seconds: float) -> dict[str, Any]:
    """New captions beside the bare text encoder on captions, and on texts that fill the context; then known texts."""
    context = deployment.manifest.context_length or 0
    artifact = deployment.artifact("text_encoder")
    say("bare text encoder at each batch size, on captions and on texts of full length")
    async with AsyncExitStack() as stack:
        caption, whole = (
            stack.enter_context(closing(BareEncoder(artifact, tokens(text, context))))
            for text in (CAPTION.format(1234), CAPTION * context)
        )
        load = Load(CLIENTS)
        served = await open_meter(stack, deployment, new_captions, load, seconds)
        known = await open_meter(stack, deployment, known_captions, load, seconds)
        turns: Turns = {"served": served, "bare": caption.measure(seconds), "whole": whole.measure(seconds)}
        figures = text_figures(await in_turn(turns, ROUNDS))
        return figures | {
            "cached_texts_per_s": round(await known(), 1),
            "bare_text_best_batch": caption.batch_size,
            "bare_texts_per_s_by_batch": caption.by_batch,
            "bare_whole_texts_per_s_by_batch": whole.by_batch,
        }


def text_figures(rates: Rates) -> dict[str, Any]:
    """From texts/s by round: served, and bare at the captions' length and at full length.

    text_efficiency is what serving costs; short_text_ratio what the shortness of captions is worth.
    """
    efficiency = ratio(rates["served"], rates["bare"])
    return {
        "texts_per_s": _median(rates["served"]),
        "bare_texts_per_s": _median(rates["bare"]),
        "bare_whole_texts_per_s": _median(rates["whole"]),
        "text_efficiency": efficiency["median"],
        "text_efficiency_by_round": efficiency["rounds"],
        "short_text_ratio": ratio(rates["served"], rates["whole"])["median"],
    }


async def _label_sets(deployment: Embedded, calls: int) -> dict[str, Any]:
    """One image by the client library: embedded, classified by stored label sets, compared with prompts sent along.

    The calls of a round follow one another, so that the machine's drift cancels.
    """
    (image,) = images(Spec(count=1))
    prompts = [f"a photo of a {name}" for name in _names(PROMPTS)]
    with Client(deployment.grpc_url) as client:
        turns: Turns = {"embed": _calls_per_s(lambda: client.embed_images(image))}
        for size in LABEL_SETS:
            classify = partial(client.classify, image, label_set=f"bench-{size}", top_k=5)
            turns[str(size)] = _calls_per_s(classify)
        turns["trained"] = _calls_per_s(partial(client.classify, image, label_set="bench-trained", top_k=5))
        rates = await in_turn(turns, 1 + calls)
        # The first call puts the prompts' features into the server's response cache: their best case is what is timed.
        compared = await in_turn({"prompts": _calls_per_s(lambda: client.compare(image, prompts))}, 1 + ROUNDS)
    figures = label_figures({name: found[1:] for name, found in rates.items()})
    return figures | {"prompts_images_per_s_1000": _median(compared["prompts"][1:])}


def _calls_per_s(call: Callable[[], object]) -> Callable[[], Awaitable[float]]:
    """A measurement to be made in turn, of one call."""

    def rate() -> float:
        started = time.perf_counter()
        call()
        return 1 / (time.perf_counter() - started)

    return partial(asyncio.to_thread, rate)


def label_figures(rates: Rates) -> dict[str, Any]:
    """From one client's images/s by round: embedded alone, with each number of stored labels, and by a trained head."""
    costs = {size: ratio(rates["embed"], rates[str(size)])["median"] for size in LABEL_SETS}
    return {
        "embed_ms": round(1000 / statistics.median(rates["embed"]), 2),
        "label_set_ms": {size: round(1000 / statistics.median(rates[str(size)]), 2) for size in LABEL_SETS},
        "label_set_cost_ratio": costs,
        "label_set_cost_ratio_1000": costs[1000],
        "label_set_images_per_s_1000": _median(rates["1000"]),
        "trained_head_cost_ratio_1000": ratio(rates["embed"], rates["trained"])["median"],
    }


def publish_random_heads(repository: Path, width: int) -> None:
    """Add label sets `bench-10`, `bench-100`, … and a trained one, `bench-trained`, to a served repository.

    The heads are directions drawn at random in place of encoded labels, or of trained weights: their values do not
    change the cost, and encoding ten thousand labels on a CPU would take hours.
    """
    generator = torch.Generator().manual_seed(5)
    for size in LABEL_SETS:
        vectors = functional.normalize(torch.randn(size, width, generator=generator))
        add_label_set(repository, f"bench-{size}", Prompts(_names(size), ("{}",)), vectors)
    fingerprint = json.loads((repository / "manifest.json").read_text(encoding="utf-8"))["fingerprint"]
    weight, bias = torch.randn(TRAINED, width, generator=generator), torch.zeros(TRAINED)
    label_set = LabelSet("bench-trained", fingerprint, _names(TRAINED), (), weights_sha256="random", kind="trained")
    publish_classifier(repository, label_set, TrainedHead(weight, bias, 1.0))


def tokens(text: str, context_length: int) -> Tensor:
    """The tokens of a text for the bare encoder, int32 [context_length]."""
    ids: Tensor = SimpleTokenizer(context_length=context_length)(text)[0]
    return ids.to(torch.int32)


async def new_captions(_client: AsyncClient, manifest: Manifest) -> Iterable[Question]:
    """Captions without end, each new. With random weights they may be too alike to be told apart."""
    return (_caption(number, manifest) for number in itertools.count())


async def known_captions(_client: AsyncClient, manifest: Manifest) -> Iterable[Question]:
    """A few captions again and again, so that all answers but the first come from the response cache."""
    return [_caption(number, manifest) for number in range(KNOWN_CAPTIONS)]


def _caption(number: int, manifest: Manifest) -> Question:
    return Question(EmbedTexts([CAPTION.format(number)]), check_vectors((1, manifest.embedding_width or 0)))


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"label number {number}" for number in range(count))


def _median(rates: Sequence[float]) -> float:
    return round(statistics.median(rates), 2)
