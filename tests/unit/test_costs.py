"""image_preprocess: work is bounded before decoding begins, by what the file claims; small files hold nobody up."""

import contextlib
import json
import struct
import subprocess
import sys
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from tests.image_files import (
    encode,
    icon,
    jpeg_segment,
    lossless_webp_of_nothing,
    noise,
    png,
    png_chunk,
    progressive_jpeg,
    riff,
    run_length_bmp,
    tiff,
    with_jpeg_segments,
    with_png_chunks,
)
from tests.modules import MODELS, REPOSITORY, load_module
from tests.unit.test_preprocess import pixels, preprocess

SMALL = Image.new("RGB", (8, 8), (1, 2, 3))


def reason(data: bytes, **options: Any) -> str:
    with pytest.raises(preprocess.InvalidImage) as caught:
        pixels(data, **options)
    return str(caught.value)


def png_of_zeros(width: int, height: int, depth: int, colour: int, channels: int) -> bytes:
    """A valid file, made without holding its pixels."""
    deflate, row = zlib.compressobj(1), bytes(1 + -(-width * depth * channels // 8))
    body = b"".join(deflate.compress(row * 1000) for _ in range(height // 1000)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def bitmap(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height * 2, 1, 32, 0, 0, 0, 0, 0, 0)
    return header + bytes(1000)


def j2k(tile: tuple[int, int], size: tuple[int, int], **options: Any) -> bytes:
    """A codestream that says another size and other tiles than it has."""
    data = encode(SMALL, "JPEG2000", no_jp2=True, **options)
    return data[:8] + struct.pack(">IIIIII", *size, 0, 0, *tile) + data[32:]


# Little data, and much that they claim.
BOMBS: dict[str, bytes] = {
    "lossless WebP": lossless_webp_of_nothing(16383, 6103),
    "16-bit PNG": png_of_zeros(9000, 9000, 16, 6, 4),
    "8-bit PNG": png_of_zeros(10_000, 9000, 8, 6, 4),
    "progressive JPEG": progressive_jpeg(Image.new("RGB", (8000, 8000)), 20),
    "QOI": b"qoif" + struct.pack(">IIBB", 2000, 1000, 3, 0) + b"\xfd" * 40_000 + bytes(8),
    "PPM in plain text": b"P3 2000 1000 255\n" + b"1 " * 6_000_000,
    "run-length BMP": run_length_bmp(5000, 4000, b"\0\1"),
    "run-length ICO": icon(bitmap(4000, 4000).replace(struct.pack("<HHI", 1, 32, 0), struct.pack("<HHI", 1, 8, 1))),
    "ICO": icon(bitmap(9000, 9000)),
    "TIFF": tiff(9000, 9000, zlib.compress(bytes(9000 * 9000)), [8] * 4, 2, tags={259: (3, [8])}),
    "JPEG2000": j2k((9000, 9000), (9000, 9000)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_claims_are_refused_before_decoding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    monkeypatch.setattr("jpeg_decoder.simplejpeg.decode_jpeg", decode)
    text = reason(BOMBS[kind])
    assert text.startswith(f"{kind} of ")
    assert text.endswith(("to decode, more than the limit of 2 s", "MiB to decode, more than the limit of 512 MiB"))


def test_the_limits_are_settings() -> None:
    data = encode(noise(400, 300), "PNG")
    assert "s to decode, more than the limit of 0.001 s" in reason(data, max_decode_milliseconds=1)
    assert "to decode, more than the limit of 16 MiB" in reason(data, max_decode_bytes=16 << 20)
    assert pixels(BOMBS["QOI"][:14] + b"\xfd" * 40_000, max_decode_milliseconds=10_000).shape == (3, 48, 48)


def test_a_reduced_jpeg_costs_what_it_decodes_to() -> None:
    data = encode(Image.new("RGB", (4000, 3000)), "JPEG")
    limit: dict[str, Any] = {"max_decode_bytes": 40_000_000}
    assert "more than the limit of" in reason(data, reduced_decoding=False, **limit)
    assert not pixels(data, **limit).any()
    progressive = encode(Image.new("RGB", (4000, 3000)), "JPEG", progressive=True)
    assert "more than the limit of" in reason(progressive, **limit), "its coefficients are kept whole"


# Many small parts: each of these is a megabyte or a few, and was slow or refused in one way or another.
def tiny_parts() -> dict[str, bytes]:
    plain = {kind: encode(SMALL, kind) for kind in ("PNG", "JPEG", "GIF", "JPEG2000", "PPM")}
    compressed = zlib.compress(noise(200, 100).tobytes())[:40_000]
    head = plain["PNG"][:33]
    gif = plain["GIF"]
    image = gif.index(b",\0\0\0\0\x08")
    jp2 = plain["JPEG2000"]
    return {
        "PNG pixels": head + b"".join(png_chunk(b"IDAT", compressed[i : i + 1]) for i in range(len(compressed))),
        "PNG texts": with_png_chunks(plain["PNG"], png_chunk(b"tEXt", b"a\0b") * 90_000),
        "PNG compressed texts": with_png_chunks(
            plain["PNG"], png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(250_000))) * 5000
        ),
        "JPEG comments": with_jpeg_segments(plain["JPEG"], jpeg_segment(0xFE, b"") * 9000),
        "JPEG camera data": with_jpeg_segments(plain["JPEG"], jpeg_segment(0xE1, b"Exif\0\0" + bytes(4000)) * 1000),
        "JPEG fill bytes": with_jpeg_segments(plain["JPEG"], b"\xff" * 5_000_000),
        "JPEG junk": with_jpeg_segments(plain["JPEG"], jpeg_segment(0xFE, b""), b"\xff\0" * 2_000_000),
        "GIF comments": gif[:image] + b"!\xfe\1a\0" * 40_000 + gif[image:],
        "GIF comment of many parts": gif[:image] + b"!\xfe" + b"\1a" * 900_000 + b"\0" + gif[image:],
        "GIF junk": gif[:image] + bytes(90_000) + gif[image:],
        "WEBP chunks": riff(*[(b"quiz", b"")] * 90_000, *[(b"VP8L", lossless_webp_of_nothing(9, 9)[20:])]),
        "TIFF tags": tiff(8, 8, bytes(192), [8] * 3, 2, tags={tag: (3, [1]) for tag in range(1000, 30_000)}),
        "JPEG2000 boxes": jp2[:32] + (b"\0\0\0\x08free" * 90_000) + jp2[32:],
        "PPM comments": b"P6\n" + b"#\n" * 30_000 + b"8 8 255\n" + bytes(192),
    }


TINY = tiny_parts()


def processor_seconds(data: bytes) -> float:
    """The least of a few tries, since a machine that others use is slow by the minute."""

    def once() -> float:
        begun = time.process_time()
        with contextlib.suppress(preprocess.InvalidImage):
            pixels(data)
        return time.process_time() - begun

    return min(once() for _ in range(3))


@pytest.fixture(scope="module")
def photograph_seconds() -> float:
    """What an ordinary image takes: 12 megapixels of progressive JPEG, an eighth of what one image may take."""
    return processor_seconds(encode(noise(4000, 3000), "JPEG", progressive=True))


@pytest.mark.parametrize("kind", TINY)
def test_many_small_parts_are_soon_read(kind: str, photograph_seconds: float) -> None:
    assert processor_seconds(TINY[kind]) < 4 * photograph_seconds


def test_only_broken_ones_of_many_small_parts_are_refused() -> None:
    assert reason(TINY["PNG pixels"]).startswith("damaged or truncated PNG")
    for kind in TINY.keys() - {"PNG pixels"}:
        pixels(TINY[kind])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (with_png_chunks(encode(SMALL, "PNG"), png_chunk(b"tEXt", b"") * 100_001), "chunks"),
        (with_jpeg_segments(encode(SMALL, "JPEG"), jpeg_segment(0xFE, b"") * 10_001), "segments"),
        (riff(*[(b"quiz", b"")] * 100_001), "chunks"),
        (b"GIF89a\x08\0\x08\0\0\0\0" + b"!\xfe\0" * 100_001, "blocks"),
        (b"GIF89a\x08\0\x08\0\0\0\0!\xfe" + b"\1a" * 1_000_001, "sub-blocks"),
        (b"P3 9 9 255\n" + b"#\n" * 100_001, "comments"),
        (encode(SMALL, "JPEG2000")[:32] + b"\0\0\0\x08free" * 100_001, "parts"),
    ],
)
def test_more_parts_than_any_encoder_makes(data: bytes, what: str) -> None:
    text = reason(data)
    assert text.endswith(f"{what}, which is the limit")
    assert " of more than " in text


@pytest.mark.parametrize(
    ("options", "least"),
    [({"codeblock_size": (4, 4)}, 40), ({"precinct_size": (64, 64), "codeblock_size": (8, 8)}, 10)],
)
def test_small_code_blocks_cost_memory(options: dict[str, Any], least: float) -> None:
    image = noise(256, 256)
    usual, small = (preprocess.read(encode(image, "JPEG2000", **given)).cost for given in ({}, options))
    assert small.memory - usual.memory > least * 256 * 256


def test_tiles_that_are_coded_in_ways_of_their_own() -> None:
    data = encode(SMALL, "JPEG2000", no_jp2=True)
    coding = data[data.index(b"\xff\x52") :][: 2 + int.from_bytes(data[data.index(b"\xff\x52") + 2 :][:2])]
    start = data.index(b"\xff\x90")
    length = int.from_bytes(data[start + 6 : start + 10]) + len(coding)
    tile = data[start : start + 6] + struct.pack(">I", length) + data[start + 10 : start + 12] + coding
    assert reason(data[:start] + tile + data[start + 12 :]).startswith(
        "unsupported kind of JPEG2000: tiles that are coded in ways of their own"
    )


MEASURE = """
import ctypes, io, json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from preprocess import Preprocessor, read

def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

preprocessor, row = Preprocessor((48, 48)), np.zeros((3, 48, 48), np.uint8)
found = {}
for line in sys.stdin:
    kind, data = json.loads(line)
    data = bytes.fromhex(data)
    preprocessor.fill(row, bytes.fromhex(sys.argv[2]))
    ctypes.CDLL(None).malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    preprocessor.fill(row, data)
    found[kind] = (status("VmHWM") - before, read(data).cost.memory)
print(json.dumps(found))
"""


def test_memory_stays_below_what_is_reckoned() -> None:
    """The peak of a process that decodes, over what it holds when it does not."""
    files = {
        "PNG 1-bit": png_of_zeros(4000, 2000, 1, 0, 1),
        "PNG 16-bit grey": png_of_zeros(4000, 2000, 16, 0, 1),
        "PNG 16-bit RGBA": png_of_zeros(4000, 2000, 16, 6, 4),
        "WEBP": lossless_webp_of_nothing(4000, 2000),
        "GIF": encode(Image.new("P", (4000, 2000)), "GIF", transparency=0),
        "TIFF": tiff(4000, 2000, zlib.compress(bytes(24_000_000), 1), [8] * 3, 2, tags={259: (3, [8])}),
        "progressive JPEG": encode(Image.new("RGB", (4000, 2000)), "JPEG", progressive=True, subsampling=0),
        "BMP": encode(Image.new("1", (4000, 2000)), "BMP"),
    }
    lines = "".join(json.dumps([kind, data.hex()]) + "\n" for kind, data in files.items())
    folder = MODELS / "image_preprocess" / "1"
    command = [sys.executable, "-c", MEASURE, str(folder), encode(SMALL, "PNG").hex()]
    answer = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    for kind, (peak, reckoned) in json.loads(answer.stdout).items():
        assert peak < reckoned + (16 << 20), kind
        assert peak > reckoned / 4, f"{kind}: reckoned far too high"


def test_pixels_of_a_file_of_tiny_chunks() -> None:
    image = noise(60, 40)
    plain = encode(image, "PNG")
    start, end = plain.index(b"IDAT") + 4, plain.rindex(b"IEND") - 8
    body = plain[start:end]
    chunks = b"".join(png_chunk(b"IDAT", body[i : i + 1]) for i in range(len(body)))
    np.testing.assert_array_equal(pixels(plain[: start - 8] + chunks + plain[end + 4 :]), pixels(plain))


def test_the_docs_show_the_rates() -> None:
    rates = load_module(MODELS / "image_preprocess" / "1" / "costs.py").RATES
    rows = [f"| {kind} | {' | '.join(f'{value:g}' for value in rate)} |" for kind, rate in rates.items()]
    assert "\n".join(rows) in (REPOSITORY / "docs" / "images.md").read_text()


def test_a_png_helper_makes_valid_files() -> None:
    assert not pixels(png(9, 9, 8, 0, bytes(81))).any()
