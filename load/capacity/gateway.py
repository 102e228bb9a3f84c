"""What the gateway costs: the same images through it and straight to Triton over gRPC, in turn.

A request is what OpenAI's SDK sends for one image: a data URL in JSON, vectors back as base64. Bodies are made outside
the clock; the gateway runs in a process of its own on the same machine, and competes with the server for its cores.
"""

import base64
import statistics
import sys
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import orjson

from load.capacity.measure import interleaved, throughput
from tritonclip_server.embedded.gateway import Gateway


class GatewayCalls:
    """Requests to a gateway, one image each."""

    def __init__(self, url: str, images: list[bytes], clients: int) -> None:
        self._bodies = [
            orjson.dumps(
                {"input": f"data:image/jpeg;base64,{base64.b64encode(image).decode()}", "encoding_format": "base64"}
            )
            for image in images
        ]
        self._http = httpx.Client(
            base_url=url,
            timeout=60.0,
            trust_env=False,
            headers={"content-type": "application/json"},
            limits=httpx.Limits(max_connections=clients, max_keepalive_connections=clients),
        )

    def embed_image(self, number: int) -> None:
        """One request with one image."""
        self._http.post("/v1/embeddings", content=self._bodies[number % len(self._bodies)]).raise_for_status()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def measure_gateway(
    triton_url: str,
    images: list[bytes],
    direct: Callable[[int], object],
    *,
    clients: int,
    rounds: int,
    seconds: float,
    calls: int,
) -> dict[str, Any]:
    """Throughput and latency through a gateway, beside those of `direct` calls for the same images."""
    with Gateway(triton_url, port=0) as gateway:
        requests = GatewayCalls(gateway.url, images, clients)
        try:
            _say("latency of single requests, direct and through the gateway in turn")
            direct_ms, gateway_ms = interleaved((direct, requests.embed_image), calls)
            direct_rates, gateway_rates = [], []
            for number in range(rounds):
                _say(f"gateway round {number + 1} of {rounds}: direct, then through the gateway")
                direct_rates.append(throughput(direct, clients, seconds))
                gateway_rates.append(throughput(requests.embed_image, clients, seconds))
        finally:
            requests.close()
    direct_rate, gateway_rate = statistics.median(direct_rates), statistics.median(gateway_rates)
    return {
        "gateway_images_per_s": round(gateway_rate, 2),
        "gateway_direct_images_per_s": round(direct_rate, 2),
        "gateway_efficiency": round(gateway_rate / direct_rate, 4),
        "gateway_efficiency_by_round": [round(g / d, 4) for g, d in zip(gateway_rates, direct_rates, strict=True)],
        "gateway_added_latency": {
            f"p{percent}_ms": round(float(np.percentile(gateway_ms, percent) - np.percentile(direct_ms, percent)), 2)
            for percent in (50, 99)
        },
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
