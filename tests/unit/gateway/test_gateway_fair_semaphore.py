"""The waiting room: whose turn it is, what bounds it, and that nobody waits for ever. On a clock that only jumps."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from tests.virtual_time import run
from tritonclip_server.gateway.admission.fair_semaphore import ANSWER_SECONDS, FairSemaphore, QueueLimits
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.metrics import Metrics

LATE = 1e9
"""A deadline that does not matter."""


class Inside:
    """A room of 10, and who was let in: each stays for its seconds."""

    def __init__(self, *, size: int = 10, share: int | None = None, requests: int = 100, seconds: float = 60.0) -> None:
        self.metrics = Metrics()
        self.let_in: list[str] = []
        self.at: dict[str, float] = {}
        self.totals: list[int] = []
        self.room = FairSemaphore(
            "places", size, share=share, bounds=QueueLimits(requests, seconds), metrics=self.metrics,
            changed=self.totals.append,
        )  # fmt: skip

    async def stay(
        self, name: str, weight: int = 10, seconds: float = 1.0, *, deadline: float = LATE, begun: bool = False
    ) -> str:
        """`a2` is a request of the caller `a`; returns how it ended."""
        try:
            await self.room.acquire(name[0], weight, deadline=deadline, begun=begun)
        except ApiError as error:
            self.at[name] = asyncio.get_running_loop().time()
            return error.code
        self.let_in.append(name)
        self.at[name] = asyncio.get_running_loop().time()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.room.release(name[0], weight)
        return "in"

    def start(self, *names: str, **options: object) -> "list[asyncio.Task[str]]":
        """Ask for each, in this order."""
        return [asyncio.create_task(self.stay(name, **options)) for name in names]  # type: ignore[arg-type]

    def number(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(f"tritonclip_gateway_{name}", labels) or 0.0

    def assert_empty(self) -> None:
        """Nothing is held, nobody waits, and there never was too much."""
        assert (self.room.total, self.room.held, self.totals[-1:]) == (0, {}, [0])
        assert max(self.totals) <= self.room.size
        assert self.number("requests_waiting", room="places", model="") == 0
        assert self.room.queued == 0


async def ended(tasks: "Sequence[asyncio.Task[str]]") -> list[str]:
    return list(await asyncio.gather(*tasks))


def test_one_callers_requests_go_in_their_order() -> None:
    async def main() -> Inside:
        inside = Inside()
        assert set(await ended(inside.start("a1", "a2", "a3", "a4"))) == {"in"}
        return inside

    inside = run(main())
    assert inside.let_in == ["a1", "a2", "a3", "a4"]
    assert inside.at == {"a1": 0, "a2": 1, "a3": 2, "a4": 3}
    inside.assert_empty()


def test_callers_take_turns() -> None:
    """A flood waits behind itself: b, who comes last, is next but one, and so is whatever it asks then."""

    async def main() -> Inside:
        inside = Inside()
        await ended(inside.start("a1", "a2", "a3", "a4", "b1", "b2", "c1"))
        return inside

    assert run(main()).let_in == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_whoever_fits_enters_at_once() -> None:
    async def main() -> Inside:
        inside = Inside()
        await ended([*inside.start("a1", weight=4), *inside.start("b1", weight=6), *inside.start("c1", weight=0)])
        return inside

    inside = run(main())
    assert set(inside.at.values()) == {0}
    inside.assert_empty()


def test_a_large_one_is_not_starved_and_does_not_block_for_ever() -> None:
    """Small ones come all the time. Those after it wait while the room empties for it, no longer; then they pass."""

    async def main() -> Inside:
        inside = Inside()
        tasks = []
        for tick in range(40):
            tasks += inside.start(f"s{tick}", weight=5, seconds=1.0)
            if tick == 4:
                tasks += inside.start("L", weight=10, seconds=1.0)
            await asyncio.sleep(0.5)
        assert set(await ended(tasks)) == {"in"}
        return inside

    inside = run(main())
    assert inside.at["L"] <= 2.0 + 1.5  # it came at 2; what was inside then took a second to end
    assert max(inside.at[f"s{tick}"] - tick / 2 for tick in range(40)) <= 2.5
    inside.assert_empty()


def test_a_share_that_is_used_up_holds_up_nobody_else() -> None:
    async def main() -> Inside:
        inside = Inside(share=6)
        tasks = [*inside.start("a1", weight=6), *inside.start("a2", "b1", weight=4)]
        await ended(tasks)
        return inside

    inside = run(main())
    assert inside.at == {"a1": 0, "b1": 0, "a2": 1}
    inside.assert_empty()


def test_a_callers_small_request_does_not_pass_its_large_one() -> None:
    async def main() -> Inside:
        inside = Inside(share=6)
        await ended([*inside.start("a1", weight=4), *inside.start("a2", weight=6), *inside.start("a3", weight=1)])
        return inside

    assert run(main()).let_in == ["a1", "a2", "a3"]


@pytest.mark.parametrize(("seconds", "deadline", "at"), [(3.0, LATE, 3.0), (30.0, 2.0, 2.0 - ANSWER_SECONDS)])
def test_nobody_waits_longer_than_it_may(seconds: float, deadline: float, at: float) -> None:
    """The refusal is there before the caller's own deadline is over."""

    async def main() -> Inside:
        inside = Inside(seconds=seconds)
        first = inside.start("a1", seconds=100.0)
        assert await ended(inside.start("b1", deadline=deadline)) == ["overloaded"]
        assert await inside.stay("c1", deadline=0.0) == "overloaded"  # a deadline that is over already
        await ended(first)
        return inside

    inside = run(main())
    assert inside.at["b1"] == pytest.approx(at)
    assert inside.number("no_room_total", room="places", reason="waited_too_long") == 2
    assert inside.number("waited_seconds_count", room="places") == 1
    inside.assert_empty()


def test_who_waits_for_its_own_requests_is_told_so() -> None:
    async def main() -> Inside:
        inside = Inside(share=6, seconds=1.0)
        results = await ended([*inside.start("a1", weight=6, seconds=9.0), *inside.start("a2", weight=1)])
        assert results == ["in", "rate_limit_exceeded"]
        return inside

    run(main()).assert_empty()


def test_a_flood_cannot_fill_the_waiting_room_for_others() -> None:
    """When too many wait, the one with most of them loses its last: then b has its half."""

    async def main() -> Inside:
        inside = Inside(requests=4)
        tasks = inside.start("a0", "a1", "a2", "a3", "a4", "a5", "b1", "b2", "b3")
        results = dict(zip(["a0", "a1", "a2", "a3", "a4", "a5", "b1", "b2", "b3"], await ended(tasks), strict=True))
        assert [name for name, result in results.items() if result == "overloaded"] == ["a3", "a4", "a5", "b3"]
        return inside

    inside = run(main())
    assert inside.let_in == ["a0", "a1", "b1", "a2", "b2"]
    assert {inside.at[name] for name in ("a3", "a4", "a5", "b3")} == {0}
    assert inside.number("no_room_total", room="places", reason="too_many_wait") == 4
    inside.assert_empty()


def test_what_has_begun_is_neither_counted_nor_refused() -> None:
    async def main() -> Inside:
        inside = Inside(requests=1, seconds=2.0)
        tasks = inside.start("a1", seconds=5.0)
        tasks += inside.start("a2", "a3", begun=True)
        await asyncio.sleep(0)
        assert inside.number("requests_waiting", room="places", model="") == 0
        tasks += inside.start("b1", "a4")
        assert await ended(tasks) == ["in", "in", "in", "overloaded", "overloaded"]
        return inside

    inside = run(main())
    assert (inside.at["b1"], inside.at["a4"]) == (2.0, 0)
    assert inside.let_in == ["a1", "a2", "a3"]
    inside.assert_empty()


def test_who_is_cancelled_leaves_at_once_and_holds_up_nobody() -> None:
    async def main() -> Inside:
        inside = Inside()
        tasks = [*inside.start("a1", weight=5), *inside.start("b1", weight=10), *inside.start("c1", weight=5)]
        await asyncio.sleep(0.25)
        assert inside.number("requests_waiting", room="places", model="") == 2
        tasks[1].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert inside.number("requests_waiting", room="places", model="") == 0
        assert await ended([tasks[0], tasks[2]]) == ["in", "in"]
        return inside

    inside = run(main())
    assert inside.at == {"a1": 0, "c1": 0.25}
    inside.assert_empty()


def test_who_is_cancelled_in_the_moment_it_is_let_in_holds_nothing() -> None:
    async def main() -> Inside:
        inside = Inside()
        inside.room.take("x", 10)
        tasks = inside.start("a1", "b1", "c1")
        await asyncio.sleep(0)
        inside.room.release("x", 10)  # a1 is let in, and has not heard of it
        tasks[0].cancel()
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert await tasks[2] == "in"
        return inside

    inside = run(main())
    assert inside.let_in == ["c1"]
    inside.assert_empty()


def test_waiting_is_measured() -> None:
    async def main() -> Inside:
        inside = Inside()
        await ended(inside.start("a1", "a2", "a3"))
        return inside

    inside = run(main())
    assert inside.number("waited_seconds_count", room="places") == 3
    assert inside.number("waited_seconds_sum", room="places") == pytest.approx(0 + 1 + 2)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_all_is_given_back(seed: int) -> None:
    """Callers, weights, times, deadlines and cancellations at random: every request ends, and nothing is left."""
    chance = random.Random(seed)

    async def main() -> Inside:
        inside = Inside(share=chance.choice([None, 10, 7]), requests=chance.choice([3, 20]), seconds=5.0)
        tasks: list[asyncio.Task[str]] = []
        for number in range(200):
            tasks += inside.start(
                f"{chance.choice('abcd')}{number}",
                weight=chance.randint(0, int(min(inside.room.size, inside.room.share))),
                seconds=chance.random(),
                deadline=asyncio.get_running_loop().time() + chance.choice([0.1, 2.0, LATE]),
                begun=chance.random() < 0.2,
            )
            if chance.random() < 0.3:
                chance.choice(tasks).cancel()
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() / 4)
        await asyncio.gather(*tasks, return_exceptions=True)
        return inside

    inside = run(main())
    assert inside.let_in
    inside.assert_empty()
