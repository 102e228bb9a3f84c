"""Bodies with a Content-Encoding: gzip and deflate are undone, within the limit of a body that comes as it is."""

import zlib

from gateway.errors import ApiError

MEMBERS = 64  # of one gzip body: for each of them the rest is copied
_GZIP = b"\x1f\x8b"


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
    data, packed = b"", body
    try:
        for _ in range(MEMBERS):
            inflate = zlib.decompressobj(format)
            data += inflate.decompress(packed, limit + 1 - len(data))
            packed = inflate.unused_data
            if len(data) > limit or not packed.startswith(_GZIP):
                break
    except zlib.error:
        raise ApiError("invalid_encoding", "the body is not what its Content-Encoding says, or is damaged") from None
    if len(data) > limit:
        raise ApiError("body_too_large", f"the body is larger than the limit of {limit} bytes once it is unpacked")
    if not inflate.eof:
        raise ApiError("invalid_encoding", "the compressed body is cut off")
    if packed:
        raise ApiError("invalid_encoding", "there is more behind the end of the compressed body")
    return data
