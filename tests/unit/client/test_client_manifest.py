"""The manifest: asked for once for all who need it, nobody waiting longer than his own timeout; read strictly."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.unit.client.conftest import Wire
from tritonclip import (
    AsyncClient,
    Client,
    ConnectError,
    DeadlineExceededError,
    Manifest,
    NotFoundError,
    ProtocolError,
)
from tritonclip.protocol.messages import Call, InferRequest
from tritonclip.protocol.statuses import status_error
from tritonclip.testing import FakeServer

MANY = 16


def outcomes(
    wire: Wire, client: Any, timeouts: list[float], failed: Callable[[], object] = lambda: None
) -> list[tuple[Any, float]]:
    """What calls with these timeouts, all begun together, end with, and after how many seconds.

    ``failed`` is called for each that ends with an error.
    """
    ends: list[tuple[Any, float]] = []
    started = time.monotonic()

    async def call_async(timeout: float) -> None:  # noqa: ASYNC109 - the client's
        try:
            end: Any = await client.with_timeout(timeout).embed_texts("a")
        except Exception as error:
            end = error
            failed()
        ends.append((end, time.monotonic() - started))

    async def call_all() -> None:
        await asyncio.gather(*map(call_async, timeouts))

    def call(timeout: float) -> None:
        try:
            end: Any = client.with_timeout(timeout).embed_texts("a")
        except Exception as error:
            end = error
            failed()
        ends.append((end, time.monotonic() - started))

    if wire.is_async:
        asyncio.run(call_all())
    else:
        threads = [threading.Thread(target=call, args=(timeout,)) for timeout in timeouts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return ends


@pytest.fixture
def client(wire: Wire) -> Any:
    return AsyncClient(wire.url) if wire.is_async else Client(wire.url)


def test_a_hung_server_costs_everyone_his_own_timeout_and_no_more(wire: Wire, client: Any) -> None:
    release = threading.Event()
    wire.fake.before = lambda call: release.wait(60)
    try:
        ends = outcomes(wire, client, [2.0] * MANY)
    finally:
        release.set()
    # Who asks again, with the little that is left of his time, may find that too short for a new connection.
    assert {type(end) for end, _ in ends} <= {DeadlineExceededError, ConnectError}
    assert max(after for _, after in ends) < 20  # one after another they would take 2 s each, 32 s


def test_nobody_waits_for_one_who_has_more_time(wire: Wire, client: Any) -> None:
    arrived, release = threading.Event(), threading.Event()

    def before(call: Call) -> None:
        arrived.set()
        release.wait(60)

    wire.fake.before = before
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(outcomes, wire, client, [60.0])
        try:
            assert arrived.wait(30)
            ends = outcomes(wire, client, [0.5] * MANY)
            assert not patient.done()
        finally:
            release.set()
        assert [len(end) for end, _ in patient.result()] == [1]
    assert [type(end) for end, _ in ends] == [DeadlineExceededError] * MANY
    assert max(after for _, after in ends) < 20


def test_one_answer_serves_all(wire: Wire, client: Any) -> None:
    arrived = threading.Semaphore(0)

    def before(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "manifest":
            arrived.release()
            time.sleep(0.5)

    wire.fake.before = before
    ends = outcomes(wire, client, [20.0] * MANY)
    assert [len(end) for end, _ in ends] == [1] * MANY
    assert len(wire.fake.requests("manifest")) == 1


def test_one_error_is_that_of_all_but_a_deadline_is_not(wire: Wire, client: Any) -> None:
    def before(call: Call) -> None:
        if isinstance(call, InferRequest) and call.model == "manifest":
            time.sleep(0.5)
            raise status_error("NOT_FOUND", "no such model", "manifest")

    wire.fake.before = before
    ends = outcomes(wire, client, [20.0] * 4)
    assert [type(end) for end, _ in ends] == [NotFoundError] * 4
    assert len(wire.fake.requests("manifest")) < 4

    hung = threading.Event()  # until one has lost his patience
    wire.fake.before = lambda call: hung.wait(30) if call.model == "manifest" else None
    by_type = {type(end).__name__ for end, _ in outcomes(wire, client, [0.5, 60.0], failed=hung.set)}
    assert by_type == {"DeadlineExceededError", "Embeddings"}  # whoever of the two asked first


def test_no_server_is_one_error_for_all(free_port: int) -> None:
    with Client(f"http://127.0.0.1:{free_port}") as client:
        wire = Wire("", FakeServer(), None, is_async=False)
        assert {type(end) for end, _ in outcomes(wire, client, [20.0] * 4)} == {ConnectError}


GOOD = {
    "variant": "v",
    "embedding_width": 16,
    "context_length": 77,
    "logit_scale": 100,
    "logit_bias": None,
    "label_sets": {"animals": {"labels": 2, "templates": ["{}"], "names": ["cat", "dog"]}},
}


def test_a_good_manifest() -> None:
    manifest = Manifest.from_document(GOOD)
    assert (manifest.logit_scale, manifest.embedding_width) == (100.0, 16)
    assert manifest.label_sets["animals"].names == ("cat", "dog")
    assert Manifest.from_document({"logit_scale": 1.5}).max_batch_size == 64


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("embedding_width", 0),
        ("embedding_width", -1),
        ("embedding_width", 16.0),
        ("embedding_width", "16"),
        ("embedding_width", True),
        ("context_length", 0),
        ("image_size", "large"),
        ("image_size", [256, 256]),
        ("max_batch_size", 0),
        ("max_batch_size", "many"),
        ("logit_scale", 0),
        ("logit_scale", -100.0),
        ("logit_scale", float("nan")),
        ("logit_scale", float("inf")),
        ("logit_scale", "100"),
        ("logit_scale", 10**400),
        ("logit_scale", True),
        ("logit_bias", float("nan")),
        ("random_weights", "no"),
        ("random_weights", 1),
        ("variant", 3),
        ("fingerprint", ["a"]),
        ("label_sets", ["animals"]),
        ("label_sets", {"animals": 3}),
        ("label_sets", {"animals": {}}),
        ("label_sets", {"animals": {"labels": 0}}),
        ("label_sets", {"animals": {"labels": "2"}}),
        ("label_sets", {"animals": {"labels": 2, "templates": "a photo of a {}"}}),
        ("label_sets", {"animals": {"labels": 2, "names": ["cat"]}}),
        ("label_sets", {"animals": {"labels": 2, "names": ["cat", 2]}}),
    ],
)
def test_a_manifest_that_cannot_be(entry: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match="manifest: ") as caught:
        Manifest.from_document(GOOD | {entry: value})
    assert ("animals" if entry == "label_sets" and isinstance(value, dict) else entry) in str(caught.value)
    with Client(transport=FakeServer(manifest={entry: value}).transport()) as client, pytest.raises(ProtocolError):
        client.embed_texts("a")


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_a_manifest_that_is_no_object(document: Any) -> None:
    with pytest.raises(ProtocolError, match="expected a JSON object"):
        Manifest.from_document(document)
