"""What serving costs and what batching gives: measurements in turn, at one concurrency.

with_bare       the bare encoder, and the same load over gRPC, over HTTP and through the gateway
with_unbatched  the same load on two servers, one of which runs each request alone
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

from load.capacity.baseline import BareEncoder, random_image
from load.capacity.deployment import Deployment, Embedded, embedded, linked_copy, switch_batching_off
from load.capacity.meter import Meter, open_meter
from load.capacity.workload import Load, Workload
from load.core.clients_asyncio import open_client
from load.core.knee import NotMeasurable
from load.core.turns import in_turn, ratio, say
from tritonclip_server.embedded.gateway import Gateway, items_in_flight


async def with_bare(
    deployment: Embedded, workload: Workload, load: Load, rounds: int, seconds: float
) -> dict[str, Any]:
    """Served ÷ bare, over each protocol, of requests to embed images."""
    image_size = deployment.manifest.image_size
    if image_size is None:
        raise NotMeasurable("the manifest does not say the image size, which the bare encoder needs")
    say("bare encoder at each batch size")
    async with AsyncExitStack() as stack:
        bare = stack.enter_context(closing(BareEncoder(deployment.artifact("image_encoder"), random_image(image_size))))
        urls = {"grpc": deployment.grpc_url, "http": deployment.http_url, "gateway": open_gateway(stack, deployment)}
        meters = await by_protocol(stack, deployment, urls, workload, load, seconds)
        rates = await in_turn({"bare": bare.measure(seconds), **meters}, rounds)
    return {
        "rounds": rounds,
        "images_per_s": _rounded(rates),
        "bare_best_batch": bare.batch_size,
        "bare_images_per_s_by_batch": {str(size): rate for size, rate in bare.by_batch.items()},
        "served_over_bare": {name: ratio(rates[name], rates["bare"]) for name in meters},
        **_outcomes(meters),
    }


def open_gateway(stack: AsyncExitStack, deployment: Embedded) -> str:
    """The URL of a gateway before a deployment, which the stack stops."""
    gateway = Gateway([deployment.grpc_url], 0, items_in_flight(deployment.repository))
    return stack.enter_context(gateway).url


async def by_protocol(
    stack: AsyncExitStack,
    deployment: Deployment,
    urls: Mapping[str, str],
    workload: Workload,
    load: Load,
    seconds: float,
) -> dict[str, Meter]:
    """A meter for each protocol; `urls` are those of the deployment and of a gateway before it."""
    return {
        name: await open_meter(stack, deployment, workload.questions, load, seconds, open_client(name, url))
        for name, url in urls.items()
    }


async def with_unbatched(
    deployment: Embedded, workload: Workload, load: Load, rounds: int, seconds: float, log: Path
) -> dict[str, Any]:
    """The deployment as it is ÷ the same without dynamic batching in any stage."""
    async with AsyncExitStack() as stack:
        copy = stack.enter_context(linked_copy(deployment.repository))
        switch_batching_off(copy)
        sides = {"on": deployment, "off": stack.enter_context(embedded(copy, log))}
        meters = {
            name: await open_meter(stack, side, workload.questions, load, seconds) for name, side in sides.items()
        }
        rates = await in_turn(meters, rounds)
    return {
        "rounds": rounds,
        f"{workload.unit}_per_s": _rounded(rates),
        "on_over_off": ratio(rates["on"], rates["off"]),
        "mean_batch": {name: each.mean_batch(workload.encoder) for name, each in meters.items()},
        "p95_ms": {name: each.latency_ms("p95") for name, each in meters.items()},
        **_outcomes(meters),
    }


def _rounded(rates: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [round(rate, 2) for rate in found] for name, found in rates.items()}


def _outcomes(meters: dict[str, Meter]) -> dict[str, Any]:
    return {
        "outcomes": {name: each.outcomes() for name, each in meters.items()},
        "notes": {name: each.notes() for name, each in meters.items()},
    }
