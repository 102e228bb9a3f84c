"""HTTP by hand, for what no client library would send."""

import re
import socket
from typing import Any
from urllib.parse import urlsplit

GET_LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(url: str, **options: Any) -> socket.socket:
    """A connection to a gateway that waits 30 s for whatever it waits for."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=30, **options)


def answer(connection: socket.socket) -> bytes:
    """The next answer, whole; nothing where the other side closed."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (byte := connection.recv(1)):
            return head
        head += byte
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    missing = int(length[1]) if length else 0
    body = b""
    while len(body) < missing and (part := connection.recv(missing - len(body))):
        body += part
    return head + body


def received(connection: socket.socket) -> bytes:
    """All that still comes until the other side closes; a reset loses what was not read before."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def exchange(url: str, sent: bytes) -> bytes:
    """What comes back for these bytes, until the other side closes."""
    with connect(url) as connection:
        connection.sendall(sent)
        return received(connection)


def post(path: str, body: bytes, *headers: str, announced: int | None = None) -> bytes:
    """A POST as bytes; `announced` is the length it claims."""
    length = len(body) if announced is None else announced
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *headers]).encode() + b"\r\n\r\n" + body


def statuses(answers: bytes) -> list[int]:
    """The statuses of all answers in what was received."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
