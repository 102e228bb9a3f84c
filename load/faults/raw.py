"""Requests as bytes, for clients that behave as no library would let them.

HTTP/1.1    a head that announces the body (or says that it comes in chunks), then the body
gRPC        HTTP/2's preface, an empty SETTINGS frame, the HEADERS of a call,
            then its message in DATA frames
"""

import struct
from dataclasses import dataclass
from urllib.parse import urlsplit

from load.core.protocols import Prepared

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES = 16_384  # the largest that every HTTP/2 server takes
DATA, HEADERS, SETTINGS = 0x0, 0x1, 0x4
END_STREAM, END_HEADERS = 0x1, 0x4
INITIAL_WINDOW = 0x4  # a setting: how much of an answer the server may send before it is asked for more
PART_BYTES = 4 * FRAME_BYTES  # of a body without an end
ENDLESS = 2**30  # bytes that a gRPC message announces which will never be whole


@dataclass(frozen=True)
class Raw:
    """A protocol, as an address and the bytes of a request to it.

    `idle` is what a client says that then says nothing; `head` and `body` are a whole request, with `stingy_head` one
    of a client that takes an answer by single bytes; `endless_head` begins one whose body is any number of
    `endless_part`.
    """

    protocol: str
    address: tuple[str, int]
    idle: bytes
    head: bytes
    body: bytes
    stingy_head: bytes
    endless_head: bytes
    endless_part: bytes


def raw_request(protocol: str, url: str, request: Prepared) -> Raw:
    """A request over a protocol; `url` is its server's, `request` what its client prepared."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 0)
    if protocol == "grpc":
        return _grpc(address, request.message.SerializeToString())
    post = request.message
    return _http(protocol, address, post.path, dict(post.headers), post.content)


def _http(protocol: str, address: tuple[str, int], path: str, headers: dict[str, str], body: bytes) -> Raw:
    start = f"POST {path} HTTP/1.1\r\nhost: {address[0]}:{address[1]}\r\n"
    start += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    chunk = b" " * PART_BYTES  # white space may stand before JSON in any amount
    head = f"{start}content-length: {len(body)}\r\n\r\n".encode()
    return Raw(
        protocol,
        address,
        idle=b"",
        head=head,
        body=body,
        stingy_head=head,  # the size of its receive buffer sees to that
        endless_head=f"{start}transfer-encoding: chunked\r\n\r\n".encode(),
        endless_part=f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n",
    )


def _grpc(address: tuple[str, int], message: bytes) -> Raw:
    hello = PREFACE + _frame(SETTINGS, 0, 0, b"")
    stingy = PREFACE + _frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, 1))
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ModelInfer",
        ":authority": f"{address[0]}:{address[1]}",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    call = _frame(HEADERS, END_HEADERS, 1, b"".join(_literal(*field) for field in fields.items()))
    framed = b"\0" + struct.pack(">I", len(message)) + message
    parts = [framed[i : i + FRAME_BYTES] for i in range(0, len(framed), FRAME_BYTES)]
    return Raw(
        "grpc",
        address,
        idle=hello,
        head=hello + call,
        stingy_head=stingy + call,
        body=b"".join(_frame(DATA, END_STREAM * (part is parts[-1]), 1, part) for part in parts),
        endless_head=hello + call + _frame(DATA, 0, 1, b"\0" + struct.pack(">I", ENDLESS)),
        endless_part=_frame(DATA, 0, 1, bytes(FRAME_BYTES)) * (PART_BYTES // FRAME_BYTES),
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field in HPACK, neither indexed nor compressed; both are short enough for one byte of length."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
