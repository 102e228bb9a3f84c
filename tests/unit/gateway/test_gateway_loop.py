"""No request keeps the event loop, and with it everybody else, for long: the worst that bodies can hold.

What is measured is processor time, so that a busy machine changes little, and the bound is far above what is allowed
(50 ms): each of these took seconds. `python -m tests.sweep.gateway_loop` has the figures.
"""

import asyncio
import gc

import pytest

from tests.sweep.gateway_loop import cases, measure

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
        block = asyncio.run(measure(kind, CASES[kind]()))
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
