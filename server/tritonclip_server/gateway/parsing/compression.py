"""Bodies with a Content-Encoding: gzip and deflate are undone, within the limit of a body that comes as it is."""

import io
import zlib

from tritonclip_server.gateway.errors import ApiError

MEMBERS = 64  # of one gzip body
_GZIP = b"\x1f"  # where a member begins, or its first byte at least: it may be cut by a slice
_SLICE = 2**18  # bytes unpacked in one step: each member copies the rest of its slice


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before its Content-Encoding; ApiError where that is damaged, unknown, or a bomb."""
    named = [name for part in encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if not named:
        return body
    encoding = ", ".join(named)
    if encoding in ("gzip", "x-gzip"):
        return _inflated(body, 16 + zlib.MAX_WBITS, limit)
    if encoding == "deflate":  # zlib's format by the standard, and without its header from some programs
        has_header = len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
        return _inflated(body, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS, limit)
    message = f"Content-Encoding {encoding[:40]!a}: send the body as it is, or with gzip or deflate"
    raise ApiError("unsupported_media_type", message)


def _inflated(body: bytes, format: int, limit: int) -> bytes:  # noqa: A002 - zlib's bits, which name a format
    """What was packed. gzip's format allows several members, one behind the other, and their contents are joined."""
    inflate, members, data = zlib.decompressobj(format), 1, io.BytesIO()
    for at in range(0, len(body), _SLICE):
        packed = body[at : at + _SLICE]
        while packed:
            if inflate.eof:
                if not packed.startswith(_GZIP) or format < zlib.MAX_WBITS + 16 or members == MEMBERS:
                    raise ApiError("invalid_encoding", "there is more behind the end of the compressed body")
                inflate, members = zlib.decompressobj(format), members + 1
            try:
                data.write(inflate.decompress(packed, limit + 1 - data.tell()))
            except zlib.error:
                message = "the body is not what its Content-Encoding says, or is damaged"
                raise ApiError("invalid_encoding", message) from None
            if data.tell() > limit:
                message = f"the body is larger than the limit of {limit} bytes once it is unpacked"
                raise ApiError("body_too_large", message)
            packed = inflate.unused_data
    if not inflate.eof:
        raise ApiError("invalid_encoding", "the compressed body is cut off")
    return data.getvalue()
