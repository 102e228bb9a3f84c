"""Ten thousand connections that say nothing, over each protocol: everybody else must be served as before.

Over HTTP/2 they have said hello; over HTTP/1.1 there is nothing to say."""

import asyncio
import contextlib
import resource
import socket

from load.core.limits import Limit
from load.faults.background_load import all_protocols, ask_beside
from load.faults.raw import Raw
from load.faults.reports import Report, Row, all_answered, rows_of
from load.faults.service import Service
from load.faults.slow_clients import connected, left_over, raw_requests

AT_ONCE = 256  # connections that are being made at a time
FROM_ONE_ADDRESS = 20_000  # ports that are surely free of the 28,000 an address has
OWN_DESCRIPTORS = 1000
CONNECT_SECONDS = 60.0


async def idle(service: Service, *, connections: int, seconds: float) -> Report:
    """So many connections over each protocol in turn, kept while all protocols are asked for so many seconds."""
    allow_descriptors(connections + OWN_DESCRIPTORS)
    rows: list[Row] = []
    limits: list[Limit] = []
    async with all_protocols(service) as protocols:
        await ask_beside(protocols, 2.0)  # opens the connections that it keeps
        for each in raw_requests(service, protocols):
            before = service.usage()
            opened = await _open(each, connections)
            try:
                held = service.usage()
                beside = await ask_beside(protocols, seconds)
                kept = sum(_is_open(connection) for connection in opened)
            finally:
                for connection in opened:
                    connection.close()
            part = f"{connections} idle on {each.protocol}"
            threads = held.triton_threads + held.gateway_threads - before.triton_threads - before.gateway_threads
            rows += rows_of(part, beside, mib_more=round(held.mib - before.mib, 1), threads_more=threads)
            limits.append(Limit(f"{part}: connections that were taken and kept", kept, connections, True))
            limits += await left_over(service, part, before)
        limits.append(all_answered("beside", rows))
    return Report("idle", rows, limits)


def allow_descriptors(count: int) -> None:
    """Let this process open so many files; raises OSError where the system's own limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard < count:
            raise OSError(f"this process may open {hard} files, {count} are needed: raise its hard limit (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


async def _open(each: Raw, count: int) -> list[socket.socket]:
    """The connections that were made, of so many tried."""
    room = asyncio.Semaphore(AT_ONCE)
    opened: list[socket.socket] = []

    async def one(number: int) -> None:
        async with room:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await connected(each, source=f"127.0.0.{2 + number // FROM_ONE_ADDRESS}")
                opened.append(connection)
                await asyncio.get_running_loop().sock_sendall(connection, each.idle)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
    return opened


def _is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed it; what it may have said is thrown away."""
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
