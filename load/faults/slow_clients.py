"""Clients that are slow, that vanish, or whose bodies never end: everybody else must be served as before.

    slow to send      the head at once, then a byte a second
    slow to read      many requests at once on one connection, the answers read a byte a second
    vanishing         half a request, or a whole one, and the connection is reset; again and again
    without an end    a body that goes on and on

Each is done by several clients over each protocol, beside checked requests over all. Afterwards no descriptors may be
left. Memory is another matter: allocators keep what they once had for the next time. So each kind comes several times,
and must not leave more than it can have needed at once; what was leaked would be left several times over.

Clients that vanish can kill an old Triton (docs/load.md, limits found): rows of a pass in which that happened have a
name that says so, and stand beside the others.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from load.core.generator import Result
from load.core.limits import Limit
from load.core.process_stats import MIB, Usage
from load.faults.background_load import Protocols, all_protocols, ask_beside, until_answered
from load.faults.raw import Raw, raw_request
from load.faults.reports import Report, all_answered, rows_of
from load.faults.service import CrashWatch, Service

CLIENTS = 20  # of each kind over each protocol
PAUSE_SECONDS = 1.0
PIPELINED = 64  # requests of a client that reads slowly
PART_SECONDS = 0.05  # between the parts of a body without an end
SETTLE_SECONDS = 60.0  # longer than the gateway waits for a body
SPARE_DESCRIPTORS = 8  # the checked requests' own connections come and go
SPARE_MIB = 128.0  # beside the bodies that were sent: decoders, tensors, new requests' buffers
PASSES = 3
VANISHING = "vanishing"
CRASHED = "vanishing: Triton crashed"


class Attack:
    """CLIENTS of a kind over each protocol, each until the server ends its connection; `sent` counts their bytes."""

    def __init__(self, requests: Sequence[Raw], client: "Client") -> None:
        self._requests = requests
        self._client = client
        self.sent = 0

    async def run(self, protocols: Protocols, seconds: float) -> dict[str, Result]:
        """What was asked beside them, for so many seconds."""
        tasks = [asyncio.create_task(self._client(self, each)) for each in self._requests for _ in range(CLIENTS)]
        try:
            return await ask_beside(protocols, seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def send(self, connection: socket.socket, content: bytes) -> None:
        """Send all of it; OSError where the server has closed the connection."""
        await asyncio.get_running_loop().sock_sendall(connection, content)
        self.sent += len(content)


Client = Callable[[Attack, Raw], Coroutine[Any, Any, None]]


async def slow(service: Service, *, seconds: float) -> Report:
    """All kinds, one after the other, each for so many seconds."""
    limits: list[Limit] = []
    crashes = 0
    async with all_protocols(service.urls) as protocols:
        requests = raw_requests(service, protocols)
        rows = rows_of("nothing bad yet", await ask_beside(protocols, 2.0))  # opens the connections that it keeps
        for part, client in CLIENT_KINDS.items():
            before = service.usage()
            attacks = [Attack(requests, client) for _ in range(PASSES)]
            for attack in attacks:
                watch = CrashWatch(service)
                beside = await attack.run(protocols, seconds / PASSES)
                crashed = part == VANISHING and await watch.back_after_crash()
                if crashed:
                    await until_answered(protocols)
                    crashes, before = crashes + 1, service.usage()
                rows += rows_of(CRASHED if crashed else part, beside)
            needed_mib = max(attack.sent for attack in attacks) / MIB
            lost = PASSES * CLIENTS if client is _read_slowly else 0
            limits += await left_over(service, part, before, needed_mib=needed_mib, lost_descriptors=lost)
        # A whole request is work, whoever waits for it: hundreds a second are an overload, and are refused as one.
        limits += [
            all_answered("beside others", (row for row in rows if row.part not in {VANISHING, CRASHED})),
            all_answered("beside vanishing", (row for row in rows if row.part == VANISHING), or_refused=True),
            Limit(f"{CRASHED}, times", crashes, PASSES - 1),  # none, of a Triton of 25.04 or later
        ]
    return Report("slow", rows, limits)


def raw_requests(service: Service, protocols: Protocols) -> list[Raw]:
    """A request over each protocol as bytes."""
    return [
        raw_request(name, service.urls[name], client.prepare(questions[0].operation))
        for name, (client, questions) in protocols.items()
    ]


async def left_over(
    service: Service, part: str, before: Usage, *, needed_mib: float | None = None, lost_descriptors: int = 0
) -> list[Limit]:
    """Descriptors and memory that are held beyond those of `before`, as soon as it is little enough, or time is up.

    `needed_mib` is what the clients can have needed at once; without it memory is not judged. `lost_descriptors` are
    known to stay: Triton 2.51 gives up no call whose answer the client's flow control holds back, not even when the
    connection has broken. Clients that read what they are sent, or die before that, cost nothing.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = await asyncio.to_thread(service.usage)
        most = SPARE_DESCRIPTORS + lost_descriptors
        triton = now.triton_descriptors - before.triton_descriptors
        gateway = now.gateway_descriptors - before.gateway_descriptors
        limits = [
            Limit(f"{part}: descriptors left, Triton", triton, most),
            Limit(f"{part}: descriptors left, gateway", gateway, SPARE_DESCRIPTORS),
        ]
        if needed_mib is not None:
            bound = round(SPARE_MIB + needed_mib, 1)
            limits.append(Limit(f"{part}: MiB left", round(now.mib - before.mib, 1), bound))
        if all(limit.held for limit in limits) or time.monotonic() > deadline:
            return limits
        await asyncio.sleep(0.5)


async def _send_slowly(attack: Attack, each: Raw) -> None:
    with await connected(each) as connection:
        await attack.send(connection, each.head)
        for byte in each.body:
            await attack.send(connection, bytes([byte]))
            await asyncio.sleep(PAUSE_SECONDS)


async def _read_slowly(attack: Attack, each: Raw) -> None:
    with await connected(each, receive_buffer=1) as connection:
        requests = 1 if each.protocol == "grpc" else PIPELINED  # its stingy head alone holds the answer up
        sending = asyncio.create_task(attack.send(connection, (each.stingy_head + each.body) * requests))
        try:
            while await asyncio.get_running_loop().sock_recv(connection, 1):  # noqa: ASYNC110 - it is slow
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _vanish(attack: Attack, each: Raw) -> None:
    request = each.head + each.body
    while True:
        for length in (len(request) // 2, len(request)):
            with await connected(each) as connection:
                await attack.send(connection, request[:length])
                await asyncio.sleep(0.01)  # else the reset could overtake it
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(PART_SECONDS)


async def _send_without_end(attack: Attack, each: Raw) -> None:
    with await connected(each) as connection:
        await attack.send(connection, each.endless_head)
        while True:
            await attack.send(connection, each.endless_part)
            await asyncio.sleep(PART_SECONDS)


CLIENT_KINDS: dict[str, Client] = {
    "slow to send": _send_slowly,
    "slow to read": _read_slowly,
    VANISHING: _vanish,
    "without an end": _send_without_end,
}


async def connected(each: Raw, receive_buffer: int | None = None) -> socket.socket:
    """A connection that does not block, with a receive buffer of its own size where one is given."""
    connection = socket.socket()
    connection.setblocking(False)
    try:
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(connection, each.address)
    except BaseException:
        connection.close()
        raise
    return connection
