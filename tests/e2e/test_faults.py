"""Everything in load/faults, in short, on the real product: nothing wrong, nothing hung, nothing left behind.

Decided by how requests ended and by what is left, never by how long anything took.
"""

import asyncio
import base64
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from load.core.checks import Outcome
from load.faults.background_load import all_protocols, ask_beside, until_answered
from load.faults.bad_inputs import BATCH, poison, poisons
from load.faults.clock_skew import clock
from load.faults.idle import idle
from load.faults.overload import TIMES, overload
from load.faults.process_kill import kill
from load.faults.raw import Raw
from load.faults.reports import Report
from load.faults.service import USUAL_DESCRIPTORS, CrashWatch, Service, serve
from load.faults.slow_clients import CLIENT_KINDS, CRASHED, raw_requests, slow
from tests.modules import MODELS, load_module
from tests.waiting import wait_for
from tritonclip_server.embedded.stubs import is_dead

pytestmark = pytest.mark.alone

PROTOCOLS = {"grpc", "http", "gateway"}


@pytest.fixture(scope="module")
def service(demo_repository: Path) -> Iterator[Service]:
    with serve(demo_repository) as running:
        yield running


def check(report: Report) -> None:
    """No fault but of time, and every row has answers, or it showed nothing."""
    print(report.table())
    assert report.faults(timing=False) == []
    assert all(row.counts[Outcome.ANSWERED] for row in report.rows if row.part not in {"the bad one", CRASHED})


def test_overload_is_refused_not_failed(service: Service) -> None:
    report = asyncio.run(overload(service, seconds=6.0))
    check(report)
    beyond = [row for row in report.rows if row.part == f"{TIMES:g} times the knee"]
    assert {row.protocol for row in beyond} == PROTOCOLS
    assert any(row.counts[Outcome.REFUSED] for row in beyond), "nothing was overloaded, so this showed nothing"


def test_a_bad_image_costs_its_batch_nothing(service: Service) -> None:
    rounds = len(poisons())
    report = asyncio.run(poison(service, rounds=rounds))
    check(report)
    good, bad = report.rows
    assert good.counts[Outcome.ANSWERED] == rounds * (BATCH - 1)
    assert bad.counts[Outcome.FAILED] == rounds


def answer_of(each: Raw, expected: bytes) -> bytes:
    """What comes back for a whole request, until what is expected is in it, or nothing more comes."""
    answer = b""
    with socket.create_connection(each.address, timeout=30.0) as connection, suppress(TimeoutError):
        connection.sendall(each.head + each.body)
        while expected not in answer and (part := connection.recv(65536)):
            answer += part
    return answer


def test_requests_written_by_hand_are_requests(service: Service) -> None:
    """Else clients that send them slowly, or vanish after them, would show nothing."""

    async def ask() -> dict[str, tuple[Raw, bytes]]:
        async with all_protocols(service.urls) as protocols:
            vectors = {
                name: await client.send(client.prepare(asked[0].operation), 60)
                for name, (client, asked) in protocols.items()
            }
            return {
                each.protocol: (each, vectors[each.protocol].tobytes()) for each in raw_requests(service, protocols)
            }

    requests = asyncio.run(ask())
    assert set(requests) == PROTOCOLS
    for way, (each, vector) in requests.items():
        expected = base64.b64encode(vector) if way == "gateway" else vector
        assert expected in answer_of(each, expected), way


def test_slow_and_vanishing_clients_cost_others_nothing(service: Service) -> None:
    report = asyncio.run(slow(service, seconds=3.0))
    check(report)
    assert {row.part for row in report.rows} - {CRASHED} == {"nothing bad yet", *CLIENT_KINDS}


def test_triton_says_how_many_requests_wait_for_a_model(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """What preprocessing asks where requests were cancelled (model_repository/image_preprocess/1/backlog.py)."""
    pending = load_module(MODELS / "image_preprocess" / "1" / "pending.py")
    monkeypatch.setenv(pending.VARIABLE, service.stub("image_preprocess_0_0").environ()[pending.VARIABLE])

    async def flood() -> list[int]:
        async with all_protocols(service.urls) as protocols:
            flooding = asyncio.create_task(ask_beside(protocols, 2.0, clients=16))
            waiting = []
            while not flooding.done():
                waiting.append(await asyncio.to_thread(pending.pending_requests, "image_preprocess"))
            return [*waiting, await asyncio.to_thread(pending.pending_requests, "image_preprocess")]

    *during, after = asyncio.run(flood())
    assert max(during) > 1
    assert after == 0


def test_a_crash_of_triton_is_seen_and_waited_for(service: Service) -> None:
    """What a pass of vanishing clients ends with where Triton could not stand them."""

    async def crash_beside() -> list[Counter[Outcome]]:
        async with all_protocols(service.urls) as protocols:
            await ask_beside(protocols, 0.5)  # opens the connections that break
            watch = CrashWatch(service)
            assert not await watch.back_after_crash()
            triton = service.triton
            triton.send_signal(signal.SIGSEGV)
            during = await ask_beside(protocols, 1.0)
            await asyncio.to_thread(wait_for, lambda: is_dead(triton))  # the watch gives it a second
            assert await watch.back_after_crash()
            await until_answered(protocols)
            after = await ask_beside(protocols, 0.5)
            return [sum((Counter(r.totals()) for r in found.values()), Counter()) for found in (during, after)]

    during, after = asyncio.run(crash_beside())
    assert during.keys() - {Outcome.ANSWERED}
    assert after.keys() == {Outcome.ANSWERED}


def test_idle_connections_cost_others_nothing(service: Service) -> None:
    """More of them than a process may have open unless it asks for more."""
    report = asyncio.run(idle(service, connections=2 * USUAL_DESCRIPTORS, seconds=1.0))
    check(report)


def test_what_is_killed_comes_back(service: Service) -> None:
    victims = ["an encoder's process", "the gateway"]  # of the others tests/e2e/test_serve.py sees to the restart
    report = asyncio.run(kill(service, victims=victims))
    check(report)
    through = {row.part: row for row in report.rows if row.protocol == "gateway"}
    assert set(through) == set(victims)
    assert through["the gateway"].counts[Outcome.LOST]  # it was asked while it was gone
    assert all(row.figures["back_seconds"] < float("inf") for row in report.rows)


def test_a_wall_clock_that_jumps_costs_nothing(service: Service) -> None:
    check(asyncio.run(clock(service, seconds=3.0)))
