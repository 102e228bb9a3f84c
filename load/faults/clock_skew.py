"""A wall clock that jumps a day ahead, and then two days back: no request may expire early, hang or be refused.

Debian's `faketime` gives a gateway, gRPC inside it included, another wall clock than the machine's; what it says is
changed while requests are under way. Clocks that only count on are left alone, as they are when an administrator sets
the time. (The launcher and Triton cannot run under this library: it breaks their sleeps.)
"""

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp

from load.core.limits import Limit
from load.faults.background_load import all_protocols, ask_beside
from load.faults.reports import Report, Row, all_answered, rows_of
from load.faults.service import Service, run

JUMPS = {"+1d": 86_400.0, "-1d": -86_400.0}
TOLERANCE = 600.0  # seconds; to see that the clock really is another one
PATIENCE_SECONDS = 10.0  # for the gateway to show its clock


class NoFaketime(Exception):
    """The library that is needed is not installed."""


def find_library() -> Path:
    """libfaketime for programs with threads; NoFaketime where there is none."""
    for folder in ("/usr/lib", "/usr/local/lib"):
        for path in sorted(Path(folder).glob("**/faketime/libfaketimeMT.so.1")):
            return path
    raise NoFaketime("libfaketime is not installed (Debian: apt-get install faketime)")


async def clock(service: Service, *, seconds: float) -> Report:
    """Ask through the gateway with the other clock for so many seconds around each jump."""
    library = find_library()
    rows: list[Row] = []
    limits: list[Limit] = []
    with tempfile.TemporaryDirectory(prefix="tritonclip-clock-") as folder:
        offset = Path(folder) / "offset"
        offset.write_text("+0\n")
        faketime = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(offset)}
        faketime |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1"}
        with run("gateway", "--port", "0", "--url", service.urls["grpc"], environment=faketime) as gateway:
            url = gateway.wait_for_line("gateway: http").split()[-1]
            async with all_protocols({"gateway": url}) as protocols:
                for jump, ahead in JUMPS.items():
                    asking = asyncio.create_task(ask_beside(protocols, seconds))
                    await asyncio.sleep(seconds / 2)
                    offset.write_text(f"{jump}\n")
                    rows += rows_of(f"clock set {jump}", await asking)
                    off = round(await _seconds_off(url, ahead), 1)
                    limits.append(Limit(f"clock set {jump}: seconds off what it was set to", off, TOLERANCE))
    limits.append(all_answered("through the gateway", rows))
    return Report("clock", rows, limits)


async def _seconds_off(url: str, ahead: float) -> float:
    """How far the gateway's clock, as the date of its answers has it, is from so much ahead of this machine's.

    A server writes its date anew now and then, so it is given a while to show the other clock.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/health/live") as answer:
            date = parsedate_to_datetime(answer.headers["date"])
        off = abs((date - datetime.now(UTC)).total_seconds() - ahead)
        if off <= TOLERANCE or time.monotonic() > deadline:
            return off
        await asyncio.sleep(0.5)
