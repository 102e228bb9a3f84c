"""Ten thousand connections that say nothing, over each protocol: everybody else must be served as before.

Over HTTP/2 they have said hello; over HTTP/1.1 there is nothing to say."""

import asyncio
import contextlib
import socket

from load.core.limits import Limit
from load.faults.background_load import all_protocols, ask_beside
from load.faults.raw import Raw
from load.faults.reports import Report, Row, all_answered, rows_of
from load.faults.service import Service
from load.faults.slow_clients import connected, left_over, raw_requests
from tritonclip_server.embedded.process import allow_descriptors

AT_ONCE = 256  # connections that are being made at a time
CONNECT_SECONDS = 60.0


async def idle(service: Service, *, connections: int, seconds: float) -> Report:
    """So many connections over each protocol in turn, kept while all protocols are asked for so many seconds."""
    allow_descriptors()
    rows: list[Row] = []
    limits: list[Limit] = []
    async with all_protocols(service.urls) as protocols:
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


async def _open(each: Raw, count: int) -> list[socket.socket]:
    """The connections that were made, of so many tried."""
    room = asyncio.Semaphore(AT_ONCE)
    opened: list[socket.socket] = []

    async def one() -> None:
        async with room:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await connected(each)
                opened.append(connection)
                await asyncio.get_running_loop().sock_sendall(connection, each.idle)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
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
