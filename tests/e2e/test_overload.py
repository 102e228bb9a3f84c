"""Overload is answered: refused at once, never hung, and the server is as good as new afterwards."""

import threading
from collections import Counter

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.reference import PHOTOS, cosines
from tritonclip import Client
from tritonclip_server.embedded.server import Server

pytestmark = pytest.mark.alone

FLOOD = 200
AGAIN = 4  # where this process stood still amid its flood, the server may have kept up
DEADLINE_SECONDS = 120


def bytes_tensor(values: list[bytes]) -> bytes:
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def compare_request(image: bytes, texts: list[bytes]) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="compare")
    for name, values in (("image", [image]), ("text", texts)):
        request.inputs.add(name=name, datatype="BYTES", shape=[len(values), 1])
        request.raw_input_contents.append(bytes_tensor(values))
    return request


def flood(url: str, requests: list[service_pb2.ModelInferRequest]) -> Counter[str]:
    """Send all at the same moment with no retries, each with a long deadline; how each one ended."""
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()
    with grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        done = threading.Semaphore(0)

        def finished(call: grpc.Future) -> None:
            code = call.code()
            with lock:
                outcomes[code.name] += 1
            done.release()

        for request in requests:
            stub.ModelInfer.future(request, timeout=DEADLINE_SECONDS).add_done_callback(finished)
        for _ in requests:
            done.acquire()
    return outcomes


def test_a_flood_of_compare_is_answered_whole(server: Server) -> None:
    image = PHOTOS[0].read_bytes()
    for new in range(AGAIN):
        texts = [[f"text {i} of {n}, {new}".encode() for i in range(8)] for n in range(FLOOD)]
        requests = [compare_request(image, each) for each in texts]
        outcomes = flood(server.grpc_url, requests)
        assert set(outcomes) <= {"OK", "UNAVAILABLE"}
        assert outcomes.total() == FLOOD
        assert outcomes["OK"] > 0
        if outcomes["UNAVAILABLE"] > 0:
            break
    assert outcomes["UNAVAILABLE"] > 0, "the queues never filled, so nothing was refused and this test showed nothing"
    assert flood(server.grpc_url, requests[:1]) == {"OK": 1}  # and not because the server is no more


def test_a_flood_with_bad_images_in_it_is_answered_whole(server: Server) -> None:
    """Both ways in which one part of a comparison can fail while another is under way."""
    good, bad = PHOTOS[0].read_bytes(), b"no image"
    requests = [compare_request(bad if n % 4 == 0 else good, [b"a", b"b"]) for n in range(FLOOD)]
    outcomes = flood(server.grpc_url, requests)
    assert set(outcomes) <= {"OK", "UNAVAILABLE", "INVALID_ARGUMENT"}
    assert outcomes["OK"] > 0
    assert outcomes["INVALID_ARGUMENT"] > 0
    assert flood(server.grpc_url, requests[1:2]) == {"OK": 1}


def test_the_client_gets_everything_through_an_overload(server: Server) -> None:
    """Refusals are retried inside the timeout: 200 threads at once, every answer right."""
    answers = []
    with Client(server.grpc_url, timeout=DEADLINE_SECONDS) as client:
        alone = client.embed_images(PHOTOS[:1]).features

        def work() -> None:
            answers.append(client.embed_images(PHOTOS[:1]).features)

        threads = [threading.Thread(target=work) for _ in range(FLOOD)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == FLOOD
    assert cosines(np.concatenate(answers), np.repeat(alone, FLOOD, axis=0)).min() >= 0.9999
