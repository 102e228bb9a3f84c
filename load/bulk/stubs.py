"""Servers that compute nothing: each image takes a fixed time, one after the other, and a full queue refuses.

They stand for Tritons whose GPUs are the limit, so that what a run over a data set adds can be seen on any machine.
"""

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

WIDTH = 64
MANIFEST = json.dumps({"fingerprint": "57bb0000", "variant": "stub", "embedding_width": WIDTH, "max_batch_size": 64})


@dataclass(frozen=True)
class Stubs:
    """Some servers: seconds for an image, and how many requests each has waiting before it refuses."""

    count: int
    seconds: float
    queued: int = 16


class Serving(NamedTuple):
    """Servers that run: their URLs, a connection that tells their counts if asked, and their process."""

    urls: list[str]
    connection: Connection
    process: SpawnProcess


class Counts(NamedTuple):
    """Requests of all servers together: answered and refused so far, and waiting now."""

    answered: int
    refused: int
    waiting: int


class _Stub(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs
        self._free_at = 0.0
        self.answered = self.refused = self.waiting = 0

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """The manifest, or a vector for each image when their time is over."""
        answer = pb.ModelInferResponse(model_name=request.model_name)
        if request.model_name == "manifest":
            answer.outputs.add(name="manifest", datatype="BYTES", shape=[1])
            text = MANIFEST.encode()
            answer.raw_output_contents.append(len(text).to_bytes(4, "little") + text)
            return answer
        if self.waiting >= self._stubs.queued:
            self.refused += 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        images = request.inputs[0].shape[0]
        await self._take_turn(images * self._stubs.seconds)
        self.answered += 1
        answer.outputs.add(name="image_features", datatype="FP32", shape=[images, WIDTH])
        answer.raw_output_contents.append(np.full((images, WIDTH), WIDTH**-0.5, "<f4").tobytes())
        return answer

    async def _take_turn(self, seconds: float) -> None:
        """Return when those before, and this one, have had their time: on the clock, however late the loop is."""
        loop = asyncio.get_running_loop()
        self.waiting += 1
        self._free_at = max(self._free_at, loop.time()) + seconds
        await asyncio.sleep(self._free_at - loop.time())
        self.waiting -= 1


@contextmanager
def serving(stubs: Stubs) -> Iterator[Serving]:
    """Have them run in a process of their own, which ends at last."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(stubs, theirs), daemon=True)
    process.start()
    try:
        yield Serving(ours.recv(), ours, process)
    finally:
        process.terminate()
        process.join()


def counts(connection: Connection) -> Counts:
    """What they have counted so far."""
    connection.send(None)
    return Counts(*connection.recv())


def _run(stubs: Stubs, connection: Connection) -> None:
    asyncio.run(_serve(stubs, connection))


async def _serve(stubs: Stubs, connection: Connection) -> None:
    each = [_Stub(stubs) for _ in range(stubs.count)]
    servers = [grpc.aio.server(options=[("grpc.so_reuseport", 0)]) for _ in each]
    ports = []
    for stub, server in zip(each, servers, strict=True):
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(stub, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
    connection.send([f"grpc://127.0.0.1:{port}" for port in ports])
    while True:
        await asyncio.to_thread(connection.recv)
        connection.send(tuple(sum(getattr(stub, name) for stub in each) for name in Counts._fields))
