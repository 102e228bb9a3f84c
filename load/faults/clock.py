"""A wall clock that jumps a day ahead, and then two days back: no request may expire early, hang or be refused.

Debian's `faketime` gives the service's processes another wall clock than the machine's; what it says is changed while
requests are under way. Clocks that only count on are left alone, as they are when an administrator sets the time.
"""

import asyncio
import tempfile
from pathlib import Path

from load.faults.beside import ask_beside, ways_in
from load.faults.reports import Limit, Report, Row, unanswered
from load.service import Service

JUMPS = ("+1d", "-1d")


class NoFaketime(Exception):
    """The library that is needed is not installed."""


def find_library() -> Path:
    """libfaketime for programs with threads; NoFaketime where there is none."""
    for folder in ("/usr/lib", "/usr/local/lib"):
        for path in sorted(Path(folder).glob("**/faketime/libfaketimeMT.so.1")):
            return path
    raise NoFaketime("libfaketime is not installed (Debian: apt-get install faketime)")


async def clock(repository: Path, *, seconds: float) -> Report:
    """A service of its own, since all its processes must start with the other clock; so many seconds at each time."""
    library = find_library()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tritonclip-clock-") as folder:
        offset = Path(folder) / "offset"
        offset.write_text("+0\n")
        environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }
        with Service(repository, environment=environment) as service:
            said = len(service.said)
            async with ways_in(service) as ways:
                for jump in JUMPS:
                    asking = asyncio.create_task(ask_beside(ways, seconds))
                    await asyncio.sleep(seconds / 2)
                    offset.write_text(f"{jump}\n")
                    rows += [Row.of(f"clock set {jump}", name, result) for name, result in (await asking).items()]
            restarts = service.said[said:].count("starting")
    limits = [Limit("not answered", unanswered(rows), 0), Limit("restarts", restarts, 0)]
    return Report("clock", rows, limits)
