"""Work at once: what fails takes the rest with it, and waits for its end."""

import asyncio

import pytest

from tritonclip_server.gateway.gather import gather_or_cancel


def test_results_keep_their_order() -> None:
    async def after(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    assert asyncio.run(gather_or_cancel(after(0.02), after(0.0), after(0.01))) == [0.02, 0.0, 0.01]


@pytest.mark.parametrize("cancelled", [False, True])
def test_nothing_is_still_running_afterwards(cancelled: bool) -> None:
    """What the work holds is given back by its caller; a sibling that clears up slowly holds it until then."""
    ended = []

    async def slow_to_end() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.append("slow")

    async def fails() -> None:
        await asyncio.sleep(60 if cancelled else 0.01)
        raise ValueError("it failed")

    async def main() -> None:
        async with asyncio.timeout(0.05 if cancelled else 30):
            try:
                await gather_or_cancel(slow_to_end(), fails())
            finally:
                assert ended == ["slow"]

    with pytest.raises(TimeoutError if cancelled else ValueError):
        asyncio.run(main())
