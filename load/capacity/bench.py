"""`make bench`: what serving costs. Served images/s and texts/s beside the bare encoders', interleaved in one run.

Real architecture, random weights (they do not change the speed), 640x480 JPEGs and captions, one a request, 16 requests
in flight, over gRPC from the client library on the same machine. Prints a table and writes build/bench.json.
"""

import argparse
import io
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from load.capacity.baseline import BareEncoder, random_image
from load.capacity.gateway import measure_gateway
from load.capacity.label_sets import measure_label_sets, publish_random_heads
from load.capacity.measure import latencies, throughput
from load.capacity.text_rates import measure_texts
from load.core.machine import describe_machine
from tritonclip import Client
from tritonclip_server.embedded.server import Ports, Server
from tritonclip_server.export.pipeline import MODELS_FOLDER, Request, export, is_current
from tritonclip_server.export.variants import default_variant

PHOTOS = Path(__file__).resolve().parents[2] / "samples" / "photos"
JPEG_SIZE = (640, 480)
CLIENTS = 16
ROUNDS = 3
RESULTS = Path("build/bench.json")


@dataclass(frozen=True)
class Bench:
    """The parts of one run."""

    server: Server
    client: Client
    images: list[bytes]
    seconds: float
    new_texts: Iterator[int] = field(default_factory=itertools.count)

    def embed_image(self, number: int) -> None:
        """One request with one image."""
        self.client.embed_images([self.images[number % len(self.images)]])

    def embed_new_text(self, _number: int) -> None:
        """One request with a caption that was never sent before, in whichever round."""
        self.client.embed_texts([f"a photo of object number {next(self.new_texts)}"])

    def embed_known_text(self, number: int) -> None:
        """One request with one of eight sentences, so that all but the first answers come from the response cache."""
        self.client.embed_texts([f"a photo of object number {number % 8}"])

    def mean_batch(self, measured: Callable[[], float]) -> tuple[float, float]:
        """What `measured` returns, and the encoder's mean batch while it ran."""
        before = self._encoder_counts()
        result = measured()
        after = self._encoder_counts()
        return result, (after[0] - before[0]) / max(1, after[1] - before[1])

    def _encoder_counts(self) -> tuple[int, int]:
        models = self.client.status().statistics or ()
        encoder = next(model for model in models if model.name == "image_encoder")
        return encoder.inference_count, encoder.execution_count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    command = argparse.ArgumentParser(prog="python -m load.capacity.bench", description=__doc__)
    command.add_argument(
        "--seconds", type=float, default=30.0, help="length of each measurement (default: %(default)s)"
    )
    options = command.parse_args(arguments)
    repository = _published()
    manifest = json.loads((repository / "manifest.json").read_text(encoding="utf-8"))
    publish_random_heads(repository, manifest["embedding_width"])
    bare = BareEncoder(repository / "image_encoder" / "1" / "model.pt", random_image(manifest["image_size"]))
    try:
        with (
            Server(repository, Ports(0, 0, 0), log=Path("build/bench-triton.log")) as server,
            Client(server.grpc_url) as client,
        ):
            bench = Bench(server, client, jpegs(), options.seconds)
            results = measure(bench, bare)
            results |= measure_texts(
                repository / "text_encoder" / "1" / "model.pt",
                manifest["context_length"],
                lambda: throughput(bench.embed_new_text, CLIENTS, bench.seconds / 3),
                rounds=ROUNDS,
                seconds=bench.seconds / 3,
                say=_say,
            )
    finally:
        bare.close()
    results |= {"variant": manifest["variant"], "precision": manifest["precision"], "machine": describe_machine()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print_table(results)
    return 0


def measure(bench: Bench, bare: BareEncoder) -> dict[str, Any]:
    """Everything the benchmark reports, but the machine."""
    _say("bare encoder at each batch size")
    by_batch = bare.find_best_batch()
    _say("latency of single requests")
    latency = latencies(bench.embed_image, calls=60)
    bare_rates, served_rates, batches = [], [], []
    for number in range(ROUNDS):
        _say(f"round {number + 1} of {ROUNDS}: bare, then served")
        bare_rates.append(bare.items_per_s(bench.seconds))
        served, batch = bench.mean_batch(lambda: throughput(bench.embed_image, CLIENTS, bench.seconds))
        served_rates.append(served)
        batches.append(batch)
    _say("texts, repeated")
    cached_texts = throughput(bench.embed_known_text, CLIENTS, bench.seconds / 3)
    _say("label sets")
    gateway = measure_gateway(
        bench.server.grpc_url,
        bench.images,
        bench.embed_image,
        clients=CLIENTS,
        rounds=ROUNDS,
        seconds=bench.seconds / 2,
        calls=max(10, int(6 * bench.seconds)),
    )
    labels = measure_label_sets(bench.client, bench.images[0], calls=max(5, int(2 * bench.seconds)))
    bare_rate, served_rate = statistics.median(bare_rates), statistics.median(served_rates)
    return {
        "bare_images_per_s": round(bare_rate, 2),
        "served_images_per_s": round(served_rate, 2),
        "efficiency": round(served_rate / bare_rate, 4),
        "efficiency_by_round": [round(s / b, 4) for s, b in zip(served_rates, bare_rates, strict=True)],
        "bare_best_batch": bare.batch_size,
        "bare_images_per_s_by_batch": {size: round(rate, 2) for size, rate in by_batch.items()},
        "clients": CLIENTS,
        "mean_batch": round(statistics.mean(batches), 2),
        "latency_at_concurrency_1": latency,
        "cached_texts_per_s": round(cached_texts, 1),
        **labels,
        **gateway,
    }


def jpegs() -> list[bytes]:
    """The sample photographs as 640x480 JPEGs."""
    encoded = []
    for path in sorted(PHOTOS.glob("*.jpg")):
        buffer = io.BytesIO()
        Image.open(path).convert("RGB").resize(JPEG_SIZE).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    return encoded


def print_table(results: dict[str, Any]) -> None:
    """The figures for people."""
    latency, machine = results["latency_at_concurrency_1"], results["machine"]
    rows = [
        ("bare encoder", f"{results['bare_images_per_s']:.2f} images/s at batch {results['bare_best_batch']}"),
        ("served, embed_image", f"{results['served_images_per_s']:.2f} images/s at {results['clients']} clients"),
        ("efficiency", f"{results['efficiency']:.3f} served / bare (rounds: {results['efficiency_by_round']})"),
        ("bare, by batch", f"{results['bare_images_per_s_by_batch']} images/s"),
        ("mean batch", f"{results['mean_batch']:.1f}"),
        ("latency, 1 client", f"p50 {latency['p50_ms']} ms, p95 {latency['p95_ms']} ms, p99 {latency['p99_ms']} ms"),
        (
            "bare text encoder",
            f"{results['bare_texts_per_s']:.1f} captions/s at batch {results['bare_text_best_batch']}",
        ),
        ("texts, new", f"{results['texts_per_s']:.1f} captions/s at {results['clients']} clients"),
        (
            "text efficiency",
            f"{results['text_efficiency']:.3f} served / bare (rounds: {results['text_efficiency_by_round']})",
        ),
        (
            "short texts",
            f"{results['short_text_ratio']:.2f} served / bare, all tokens ({results['bare_whole_texts_per_s']:.1f} /s)",
        ),
        ("captions, by batch", f"{results['bare_texts_per_s_by_batch']} /s"),
        ("full length, by batch", f"{results['bare_whole_texts_per_s_by_batch']} /s"),
        ("texts, cached", f"{results['cached_texts_per_s']:.1f} /s"),
        ("gateway", f"{results['gateway_efficiency']:.3f} of gRPC (rounds: {results['gateway_efficiency_by_round']})"),
        (
            "added by the gateway",
            "p50 {p50_ms} ms, p99 {p99_ms} ms, 1 client".format(**results["gateway_added_latency"]),
        ),
        (
            "label set, 1000 labels",
            f"{results['label_set_cost_ratio_1000']:.3f} of embedding alone, one image a request",
        ),
        ("by number of labels", f"{results['label_set_cost_ratio']}"),
        (
            "1000 labels",
            f"{results['label_set_images_per_s_1000']} images/s stored, "
            f"{results['prompts_images_per_s_1000']} with the prompts in each request (cached)",
        ),
        ("model", f"{results['variant']}, {results['precision']}, random weights"),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, GPU: {machine['gpu']}"),
    ]
    for name, value in rows:
        print(f"{name:22}  {value}")
    print(f"written to {RESULTS}")


def _published() -> Path:
    request = Request(default_variant(), host="cpu", random=True)
    repository = MODELS_FOLDER / request.folder_name
    if not is_current(request, repository):
        export(request, repository, _say)
    return repository


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
