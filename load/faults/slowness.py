"""Clients that are slow, that vanish, or whose bodies never end: everybody else must be served as before.

    slow to send      the head at once, then a byte a second
    slow to read      many requests at once on one connection, the answers read a byte a second
    vanishing         half a request, or a whole one, and the connection is reset; again and again
    without an end    a body that goes on and on

Each is done by several clients to each way in, beside checked requests by all ways in. Afterwards nothing may be left.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence

from load.faults.beside import Ways, ask_beside, ways_in
from load.faults.reports import Limit, Report, Row, unanswered
from load.faults.wires import Wire, wire
from load.resources import Usage
from load.service import Service
from load.traffic import Result

CLIENTS = 20  # of each kind to each way in
PAUSE_SECONDS = 1.0
PIPELINED = 64  # requests of a client that reads slowly
PART_SECONDS = 0.05  # between the parts of a body without an end
SETTLE_SECONDS = 60.0  # longer than the gateway waits for a body
SPARE_DESCRIPTORS = 8  # the checked requests' own connections come and go
SPARE_MIB = 100.0  # allocators keep some of what they once had; bodies without an end are several times as much
# Triton 2.51 never gives a call up whose answer the client's flow control holds back, not even when its connection has
# broken: one descriptor each is lost until it ends. Clients that read, or die before they are answered, cost nothing.
LOST_BY_HELD_ANSWERS = CLIENTS


class ClosedByServer(Exception):
    """The server ended the connection."""


Client = Callable[[Wire], Awaitable[None]]


async def slow(service: Service, *, seconds: float) -> Report:
    """All kinds, one after the other, each for so many seconds."""
    rows: list[Row] = []
    limits: list[Limit] = []
    async with ways_in(service) as ways:
        wires = wires_of(service, ways)
        rest = await ask_beside(ways, 2.0)  # opens the connections that it keeps
        rows += [Row.of("nothing bad yet", name, result) for name, result in rest.items()]
        for part, client in CLIENT_KINDS.items():
            before = service.usage()
            beside, closed = await _attack(ways, wires, client, seconds)
            rows += [Row.of(part, name, result, closed_by_server=closed[name]) for name, result in beside.items()]
            lost = LOST_BY_HELD_ANSWERS if client is _read_slowly else 0
            limits += await left_over(service, part, before, lost=lost)
        limits.append(Limit("not answered beside", unanswered(rows), 0))
    return Report("slow", rows, limits)


def wires_of(service: Service, ways: Ways) -> list[Wire]:
    """The three ways in as bytes."""
    urls = {"grpc": service.grpc_url, "http": service.http_url, "gateway": service.gateway_url}
    return [wire(name, urls[name], questions[0].request) for name, (_, questions) in ways.items()]


async def left_over(service: Service, part: str, before: Usage, *, lost: int = 0) -> list[Limit]:
    """Descriptors and memory that are held beyond those of `before`, as soon as it is little enough, or time is up.

    `lost` descriptors of Triton's are known to stay.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = await asyncio.to_thread(service.usage)
        rises = {
            "descriptors left, Triton": (now.triton_descriptors - before.triton_descriptors, SPARE_DESCRIPTORS + lost),
            "descriptors left, gateway": (now.gateway_descriptors - before.gateway_descriptors, SPARE_DESCRIPTORS),
            "MiB left, Triton": (round(now.triton_mib - before.triton_mib, 1), SPARE_MIB),
            "MiB left, gateway": (round(now.gateway_mib - before.gateway_mib, 1), SPARE_MIB),
        }
        limits = [Limit(f"{part}: {what}", rise, bound) for what, (rise, bound) in rises.items()]
        if all(limit.held for limit in limits) or time.monotonic() > deadline:
            return limits
        await asyncio.sleep(0.5)


async def _attack(
    ways: Ways, wires: Sequence[Wire], client: Client, seconds: float
) -> tuple[dict[str, Result], dict[str, int]]:
    """What was asked beside, and how many of the bad connections the server itself ended, by way in."""
    closed = {each.way: 0 for each in wires}

    async def run(each: Wire) -> None:
        try:
            await client(each)
        except (ClosedByServer, OSError):
            closed[each.way] += 1

    tasks = [asyncio.create_task(run(each)) for each in wires for _ in range(CLIENTS)]
    try:
        beside = await ask_beside(ways, seconds)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return beside, closed


async def _send_slowly(each: Wire) -> None:
    with await connected(each) as connection:
        await _send(connection, each.head)
        for byte in each.body:
            await _send(connection, bytes([byte]))
            await asyncio.sleep(PAUSE_SECONDS)


async def _read_slowly(each: Wire) -> None:
    with await connected(each, receive_buffer=1) as connection:
        requests = 1 if each.way == "grpc" else PIPELINED  # its stingy head alone holds the answer up
        sending = asyncio.create_task(_send(connection, (each.stingy_head + each.body) * requests))
        try:
            while True:
                await _receive(connection)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _vanish(each: Wire) -> None:
    request = each.head + each.body
    while True:
        for length in (len(request) // 2, len(request)):
            with await connected(each) as connection:
                await _send(connection, request[:length])
                await asyncio.sleep(0.01)  # else the reset could overtake it
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(PART_SECONDS)


async def _send_without_end(each: Wire) -> None:
    with await connected(each) as connection:
        await _send(connection, each.endless_head)
        while True:
            await _send(connection, each.endless_part)
            await asyncio.sleep(PART_SECONDS)


CLIENT_KINDS: dict[str, Client] = {
    "slow to send": _send_slowly,
    "slow to read": _read_slowly,
    "vanishing": _vanish,
    "without an end": _send_without_end,
}


async def connected(each: Wire, receive_buffer: int | None = None, source: str | None = None) -> socket.socket:
    """A connection that does not block; with as small a receive buffer as there is, or from another address."""
    connection = socket.socket()
    connection.setblocking(False)
    try:
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            connection.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(connection, each.address)
    except BaseException:
        connection.close()
        raise
    return connection


async def _send(connection: socket.socket, content: bytes) -> None:
    """Send all of it, and see whether the server has closed the connection meanwhile."""
    await asyncio.get_running_loop().sock_sendall(connection, content)
    with contextlib.suppress(BlockingIOError):
        if connection.recv(1, socket.MSG_PEEK) == b"":
            raise ClosedByServer


async def _receive(connection: socket.socket) -> None:
    if not await asyncio.get_running_loop().sock_recv(connection, 1):
        raise ClosedByServer
