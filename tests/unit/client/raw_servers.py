"""Servers that misbehave on purpose, on loopback: raw answers, answers that never end, connections that go silent."""

import contextlib
import ctypes
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SO_ATTACH_FILTER = 26  # Linux's; the socket module does not name it
Handler = Callable[[socket.socket], None]


@contextmanager
def raw_server(handle: Handler) -> Iterator[int]:
    """Run ``handle`` on each connection, in a thread of its own; yields the port."""
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            handle(connection)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def read_request(connection: socket.socket) -> bytes:
    """One HTTP request, its body included; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := connection.recv(65536)):
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def http_answer(body: bytes, status: int = 200, **headers: str) -> bytes:
    """A whole HTTP response; underscores in names of headers stand for hyphens."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answering(*answers: bytes) -> Handler:
    """Answer the requests of a connection with these in turn, and then with the last of them."""

    def handle(connection: socket.socket) -> None:
        turn = 0
        while read_request(connection):
            connection.sendall(answers[min(turn, len(answers) - 1)])
            turn += 1

    return handle


def dribbling(head: bytes, drop: bytes, pause: float = 0.05) -> Handler:
    """Answer with a head, and then with drops of it for ever: no single wait for the network is long."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        while True:
            connection.sendall(drop)
            time.sleep(pause)

    return handle


class Relay:
    """Passes bytes between its port and a server's, until its connections are hushed: open, and forwarding nothing.

    Connections made after that are passed on as before, as after a NAT has forgotten the old ones.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._hushed: set[socket.socket] = set()
        self._open: set[socket.socket] = set()
        self.connections = 0

    def hush(self) -> None:
        """Forward nothing more on the connections of this moment."""
        self._hushed |= self._open

    def vanish(self) -> None:
        """Acknowledge nothing more on the connections of this moment: to TCP, the machine behind them is gone."""
        drop = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # a packet filter that keeps 0 bytes
        program = struct.pack("HL", 1, ctypes.addressof(drop))
        for connection in self._open:
            connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def handle(self, near: socket.socket) -> None:
        """Serve one connection, for ``raw_server``."""
        self.connections += 1
        self._open.add(near)
        with socket.create_connection(("127.0.0.1", self._target)) as far:
            other = {near: far, far: near}
            while True:
                ready, _, _ = select.select([near, far], [], [], 0.05)
                if near in self._hushed:
                    time.sleep(0.05)
                    continue
                for end in ready:
                    if not (data := end.recv(65536)):
                        return
                    other[end].sendall(data)
