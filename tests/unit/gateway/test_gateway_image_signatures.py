"""What the gateway reads of a file before it passes it on: its kind and its size, in a bounded number of steps."""

import io
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from tests.images import png_that_claims
from tritonclip_server.gateway.content.image_dimensions import STEPS, pixels_of
from tritonclip_server.gateway.content.image_signatures import kind_of, looks_like_image

WIDTH, HEIGHT = 124, 78
FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {},
    "JPEG, progressive, behind much metadata": {"progressive": True, "exif": b"Exif\0\0" + bytes(60_000)},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "TIFF with 64-bit offsets": {"big_tiff": True},
    "WEBP": {},
    "WEBP, lossless": {"lossless": True},
    "WEBP with metadata": {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"},
    "JPEG2000": {},
    "JPEG2000 with no boxes": {"no_jp2": True},
    "AVIF": {},
    "QOI": {},
    "PPM": {},
}


@pytest.mark.parametrize(("name", "options"), FORMATS.items(), ids=FORMATS)
def test_sizes_and_kinds_of_all_formats(name: str, options: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    kind = name.replace(",", "").split()[0]
    Image.effect_noise((WIDTH, HEIGHT), 40).convert("RGB").save(buffer, kind, **options)
    assert pixels_of(buffer.getvalue()) == WIDTH * HEIGHT
    assert looks_like_image(buffer.getvalue())


def test_heic_is_read_as_avif_is() -> None:
    """They differ in what is coded, not in the boxes around it."""
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, "AVIF")
    for brand in (b"heic", b"mif1", b"hevc"):
        data = buffer.getvalue().replace(b"ftypavif", b"ftyp" + brand)
        assert looks_like_image(data)
        assert pixels_of(data) == WIDTH * HEIGHT


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "JPEG of empty segments": lambda n: b"\xff\xd8" + b"\xff\xe1\x00\x02" * n,
    "JPEG of fill bytes": lambda n: b"\xff\xd8\xff" + b"\xff" * (4 * n),
    "JPEG of restart markers": lambda n: b"\xff\xd8" + b"\xff\xd0" * (2 * n),
    "JPEG of segments of length 0": lambda n: b"\xff\xd8" + b"\xff\xe1\x00\x00" * n,
    "TIFF with many entries": lambda n: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, n) + bytes(20 * n),
    "HEIF of empty boxes": lambda n: b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * n,
    "HEIF of boxes in a box": lambda n: b"\0\0\0\x08ftyp\0\0\0\0meta\0\0\0\0" + b"\0\0\0\x08free" * n,
    "JPEG 2000 of empty boxes": lambda n: b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08free" * n,
    "PPM of comments": lambda n: b"P6\n" + b"#\n" * (2 * n),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_the_work_does_not_grow_with_the_file(name: str) -> None:
    """Files of tiny pieces: Pillow's parsers took seconds for 20 of them, on the event loop."""

    def seconds(pieces: int) -> float:
        data = HOSTILE[name](pieces)
        assert pixels_of(data) is None
        started = time.thread_time()  # of this thread's own, however busy the machine is
        for _ in range(3):
            pixels_of(data)
        return time.thread_time() - started

    small = min(seconds(4 * STEPS) for _ in range(3))
    assert min(seconds(256 * STEPS) for _ in range(3)) < 20 * small + 0.01  # 64 times the pieces


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_anywhere_is_no_error(name: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, name.replace(",", "").split()[0], **FORMATS[name])
    for end in range(min(len(buffer.getvalue()), 400)):
        assert pixels_of(buffer.getvalue()[:end]) in (None, WIDTH * HEIGHT)


def test_a_bomb_says_what_it_is() -> None:
    assert pixels_of(png_that_claims(2**31 - 1, 2**31 - 1)) == (2**31 - 1) ** 2


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\n <!DOCTYPE html><title>x", "HTML"), (b"<html>", "HTML"), (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg>", "SVG"), (b'{"error": 1}', "JSON"), (b"PK\x03\x04", "ZIP"),
        (b"\x1f\x8b\x08", "gzip"), (b"\xff\x0a", "JPEG XL"), (b"not found", "text"), (b"", "empty"),
        (bytes(99), "zeros"),
        (b"\0\0\0\x18ftypmp42", "video"), (b"<feed>", "XML"), (b"\x01\x02\x03", "no image of a known format"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_named(data: bytes, kind: str) -> None:
    assert not looks_like_image(data)
    assert kind in kind_of(data)


def test_words_are_no_images() -> None:
    for words in (
        b"BMW cars in a street",
        b"P1 is a photo",
        b"GIF of a cat",
        b"RIFF raff and so on",
        b"P6 engine, 3 l",
    ):
        assert not looks_like_image(words)
