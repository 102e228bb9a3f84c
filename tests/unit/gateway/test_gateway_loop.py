"""No request keeps the event loop, and with it everybody else, for long: the worst that bodies can hold.

What is measured is processor time, so that a busy machine changes little, and the bound is far above what is allowed
(50 ms): each of these took seconds. `python -m tests.sweep.gateway_loop` has the figures.
"""

import asyncio
import gc
import threading
from typing import Any

import pytest

from tests.sweep.gateway_loop import EMBED, cases, measure, of_fields
from tests.unit.gateway.conftest import Gateway
from tritonclip_server.gateway.parsing.forms import read_form
from tritonclip_server.gateway.responses.json_responses import PIECE_BYTES, JsonResponse

CASES = cases()
SECONDS_ONCE = 0.4


@pytest.mark.parametrize(
    "kind",
    [
        "short strings",
        "empty lists",
        "unknown fields",
        "a string of escapes",
        "20 images of tiny chunks",
        "base64, percent-encoded",
        "a form of many parts",
        "gzip, a bomb",
        "a template of 4 MiB",
        "64 images by 1000 stored labels",
    ],
)
def test_the_event_loop_is_not_kept(kind: str) -> None:
    gc.disable()  # the garbage of the tests themselves takes as long
    try:
        # A loop that the machine itself keeps waiting while a thread works looks as if it were kept: not every time.
        for _ in range(3):
            block = asyncio.run(measure(kind, CASES[kind]()))
            if block.block_ms < 1000 * SECONDS_ONCE:
                break
    finally:
        gc.enable()
    assert block.block_ms < 1000 * SECONDS_ONCE
    assert block.status in (200, 400, 413)


def test_every_kind_is_answered_as_it_should_be() -> None:
    """The cases are what their names say: none is refused for a slip in how it was made."""
    statuses = {
        kind: asyncio.run(measure(kind, CASES[kind]())).status for kind in ("64 files", "64 texts at their limit")
    }
    assert set(statuses.values()) == {200}


def test_a_large_form_is_parsed_in_a_thread(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parser is Python, and takes 20 us a part."""
    threads: list[str] = []

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return read_form(*arguments)

    monkeypatch.setattr("tritonclip_server.gateway.parsing.body.read_form", noted)
    for parts in (1, 1000):
        case = of_fields(EMBED, *[("text", f"thing {n}".encode()) for n in range(parts)])
        answer = gateway.http.post(case.path, content=case.body, headers=case.headers)
        assert len(answer.json()["data"]) == parts
    small, large = threads
    assert large != small


def test_a_large_response_is_sent_in_pieces_and_others_have_their_turn() -> None:
    sent: list[Any] = []
    turns = 0

    async def main() -> None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        others = asyncio.create_task(other())
        await JsonResponse(bytes(range(256)) * 8192)({"type": "http"}, receive, send)
        others.cancel()

    asyncio.run(main())
    pieces = [message["body"] for message in sent[1:]]
    assert b"".join(pieces) == bytes(range(256)) * 8192
    assert max(map(len, pieces)) == PIECE_BYTES
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(pieces) - 1) + [False]
    assert turns >= len(pieces) - 1
