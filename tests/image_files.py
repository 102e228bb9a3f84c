"""Image files written byte by byte, as encoders do not write them: odd kinds, broken parts, much work in few bytes."""

import io
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Write an image with Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> Image.Image:
    """An image that nothing compresses; of one channel it is grey."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values[..., 0] if channels == 1 else values)


# PNG


def png_chunk(name: bytes, body: bytes, *, checksum: int | None = None) -> bytes:
    """A chunk, with a wrong checksum where one is given."""
    right = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", right if checksum is None else checksum)


def png(width: int, height: int, depth: int, colour: int, samples: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG, also one that Pillow would not write. `samples` are the rows, without filter bytes."""
    stride = len(samples) // height if height else 0
    rows = b"".join(b"\0" + samples[i * stride : (i + 1) * stride] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, body) for name, body in chunks)


def with_png_chunks(data: bytes, *chunks: bytes, after_pixels: bool = False) -> bytes:
    """The PNG with more chunks, before its pixels or after them."""
    at = data.rindex(b"IEND") - 4 if after_pixels else data.index(b"IDAT") - 4
    return data[:at] + b"".join(chunks) + data[at:]


# JPEG


def jpeg_segment(code: int, body: bytes, *, length: int | None = None) -> bytes:
    """A segment, which claims another length where one is given."""
    return struct.pack(">BBH", 0xFF, code, len(body) + 2 if length is None else length) + body


def with_jpeg_segments(data: bytes, *segments: bytes) -> bytes:
    """The JPEG with more segments right after its start."""
    return data[:2] + b"".join(segments) + data[2:]


def without_jpeg_segments(data: bytes, *codes: int) -> bytes:
    """The JPEG without its segments of these codes before the first scan."""
    kept, position = [data[:2]], 2
    while data[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if data[position + 1] not in codes:
            kept.append(data[position:end])
        position = end
    return b"".join((*kept, data[position:]))


def progressive_jpeg(image: Image.Image, scans: int, **options: Any) -> bytes:
    """A progressive JPEG of so many scans: its last one again and again."""
    data = encode(image, "JPEG", progressive=True, **options)
    starts = [position for position in range(len(data)) if data[position : position + 2] == b"\xff\xda"]
    return data[:-2] + data[starts[-1] : -2] * (scans - len(starts)) + b"\xff\xd9"


def grey_jpeg(width: int, height: int, factors: Sequence[int], *, share: float = 1.0) -> bytes:
    """A JPEG of one grey, whose components have these sampling factors, with a share of its blocks.

    A block takes six bits in the usual Huffman tables: no difference to the one before, and no more.
    """
    plain = encode(Image.new("L", (8, 8), 128), "JPEG")
    frame, tables, scan = (plain.index(bytes([0xFF, code])) for code in (0xC0, 0xC4, 0xDA))
    across, down = max(factor >> 4 for factor in factors), max(factor & 15 for factor in factors)
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    blocks = units * sum((factor >> 4) * (factor & 15) for factor in factors)
    bits = "001010" * int(blocks * share)
    bits += "1" * (-len(bits) % 8)
    numbers = range(1, len(factors) + 1)
    components = b"".join(bytes([number, factor, 0]) for number, factor in zip(numbers, factors, strict=True))
    selected = b"".join(bytes([number, 0]) for number in numbers)
    return b"".join(
        (
            plain[:frame],
            jpeg_segment(0xC0, struct.pack(">BHHB", 8, height, width, len(factors)) + components),
            plain[tables:scan],
            jpeg_segment(0xDA, bytes([len(factors)]) + selected + b"\0\x3f\0"),
            int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0"),
            b"\xff\xd9",
        )
    )


# TIFF

_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 16: "Q"}
Tag = tuple[int, Sequence[int] | bytes]
"""a type, and numbers or the bytes as they are"""


def tiff(
    width: int,
    height: int,
    strips: bytes | Sequence[bytes],
    bits: Sequence[int],
    photometric: int | None,
    *,
    order: str = "<",
    big: bool = False,
    tags: Mapping[int, Tag | None] | None = None,
) -> bytes:
    """A TIFF of any kind; `tags` are added, replaced, or left out (None). One strip by default."""
    strips = [strips] if isinstance(strips, bytes) else strips
    body, start = b"".join(strips), 16 if big else 8
    offsets = list(accumulate(map(len, strips), initial=start))[:-1]
    body += bytes(len(body) % 2)
    given: dict[int, Tag | None] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, bits),
        259: (3, [1]),
        262: None if photometric is None else (3, [photometric]),
        273: (16 if big else 4, offsets),
        277: (3, [len(bits)]),
        278: (4, [height]),
        279: (4, [len(strip) for strip in strips]),
        284: (3, [1]),
        **(tags or {}),
    }
    return _tiff_file(body, {tag: value for tag, value in sorted(given.items()) if value}, order, big)


def _tiff_file(body: bytes, tags: dict[int, Tag], order: str, big: bool) -> bytes:
    start, word, entry_bytes, count = (16, "Q", 20, "Q") if big else (8, "I", 12, "H")
    directory = start + len(body)
    values_at = directory + struct.calcsize("=" + count) + entry_bytes * len(tags) + struct.calcsize("=" + word)
    entries = values = b""
    for tag, (kind, numbers) in tags.items():
        raw = numbers if isinstance(numbers, bytes) else struct.pack(f"{order}{len(numbers)}{_CODES[kind]}", *numbers)
        length = len(raw) // (8 if kind in (5, 10, 12) else 1) if isinstance(numbers, bytes) else len(numbers)
        entries += struct.pack(f"{order}HH{word}", tag, kind, length)
        inline = struct.calcsize("=" + word)
        if len(raw) <= inline:
            entries += raw.ljust(inline, b"\0")
        else:
            entries += struct.pack(order + word, values_at + len(values))
            values += raw + bytes(len(raw) % 2)
    mark = b"II" if order == "<" else b"MM"
    header = struct.pack(order + "HHHQ", 43, 8, 0, directory) if big else struct.pack(order + "HI", 42, directory)
    return b"".join(
        (mark, header, body, struct.pack(order + count, len(tags)), entries, struct.pack(order + word, 0), values)
    )


def packed_bits(values: NDArray[Any], bits: int) -> bytes:
    """Samples of fewer than 8 bits, or of 12, row by row."""
    shifts = np.arange(bits - 1, -1, -1)
    rows = (values.reshape(len(values), -1)[..., None] >> shifts & 1).reshape(len(values), -1)
    return np.packbits(rows.astype(np.uint8), axis=1).tobytes()


# Others


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file of these chunks."""
    body = b"WEBP" + b"".join(n + struct.pack("<I", len(b)) + b + bytes(len(b) % 2) for n, b in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunks(data: bytes) -> Iterable[tuple[bytes, bytes]]:
    """The chunks of a WebP file."""
    position = 12
    while position < len(data):
        name, (length,) = data[position : position + 4], struct.unpack_from("<I", data, position + 4)
        yield name, data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def lossless_webp_of_nothing(width: int, height: int) -> bytes:
    """34 bytes that say: so many pixels, all of one colour."""
    bits = (width - 1) | (height - 1) << 14
    # No transform, no colour cache, no meta codes; each of the five codes has one symbol, which takes no bits.
    return riff((b"VP8L", b"\x2f" + struct.pack("<I", bits) + b"\x88\x88\x08" + bytes(6)))


def run_length_bmp(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of 8 bits a pixel, compressed as runs of pixels."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(header) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + bytes(range(256)) * 4 + runs


def icon(*images: bytes, sides: Sequence[int] = (16,), bits: int = 32) -> bytes:
    """An icon of these images: PNGs, or bitmaps of twice their height."""
    start, directory = 6 + 16 * len(images), b""
    for image, side in zip(images, sides, strict=True):
        directory += struct.pack("<BBBBHHII", side % 256, side % 256, 0, 0, 1, bits, len(image), start)
        start += len(image)
    return struct.pack("<HHH", 0, 1, len(images)) + directory + b"".join(images)
