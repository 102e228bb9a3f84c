"""What decoding really takes, for files of every kind, as large as may be: python -m tests.sweep.image_costs.

Each file is made as large as the limits let it be (or 20 MiB, or 100 megapixels), and decoded in a process of its own.
Prints a line each, and ends with an error where one takes more than 2 s of CPU, more than 600 MB above the idle
process, or more than `costs.py` reckons. Names of kinds as arguments select; all take about half an hour.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from tests import image_files as files
from tests.modules import MODELS, REPOSITORY, load_module

MEGA = 1_000_000
MOST_BYTES, MOST_PIXELS, MOST_SECONDS, MOST_MEMORY = 20 << 20, 100 * MEGA, 2.0, 600 * MEGA
FULL = 0.95  # of a limit
Maker = Callable[[int], bytes]


def sides(pixels: int) -> tuple[int, int]:
    """A width and a height, three by two."""
    width = max(16, round((pixels * 1.5) ** 0.5))
    return width, max(16, pixels // width)


def flat(pixels: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, sides(pixels), 1 if mode in ("1", "L", "P", "I;16") else (3, 4, 5, 6)[: len(mode)])


def photo(pixels: int, mode: str = "RGB") -> Image.Image:
    """A photograph, side by side with itself."""
    with Image.open(REPOSITORY / "samples" / "photos" / "coffee.jpg") as image:
        tile = image.convert("RGB")
    wall = Image.new("RGB", sides(pixels))
    for top in range(0, wall.height, tile.height):
        for left in range(0, wall.width, tile.width):
            wall.paste(tile, (left, top))
    return wall.convert(mode)


def noise(pixels: int, mode: str = "RGB") -> Image.Image:
    return files.noise(*sides(pixels), {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode])


CONTENTS = {"flat": flat, "photo": photo, "noise": noise}


def written(kind: str, content: str, mode: str = "RGB", **options: Any) -> Maker:
    return lambda pixels: files.encode(CONTENTS[content](pixels, mode), kind, **options)


def png(pixels: int, depth: int, colour: int, channels: int, *extra: tuple[bytes, bytes]) -> bytes:
    width, height = sides(pixels)
    return files.png(width, height, depth, colour, bytes(-(-width * depth * channels // 8) * height), *extra)


def noisy_png(pixels: int) -> bytes:
    width, height = sides(pixels)
    return files.png(width, height, 16, 6, np.random.default_rng(0).bytes(width * height * 8))


def tiny_chunks(pixels: int) -> bytes:
    data = files.png(1000, 1000, 8, 2, bytes(3 * MEGA))
    start, end = data.index(b"IDAT") + 4, data.rindex(b"IEND") - 8
    rest = data[start:end]
    return (
        data[: start - 8]
        + b"".join(files.png_chunk(b"IDAT", rest[i : i + 1]) for i in range(len(rest)))
        + files.png_chunk(b"abCd", b"") * min(pixels, 90_000)
        + data[end + 4 :]
    )


def runs(pixels: int) -> bytes:
    width, height = sides(pixels)
    return files.run_length_bmp(width, height, (b"\1\5" * width + b"\0\0") * height + b"\0\1")


def tiff(pixels: int, bits: list[int], photometric: int, strip_rows: int = 0, **tags: Any) -> bytes:
    """Deflated zeros, in one strip by default."""
    width, height = sides(pixels)
    rows = strip_rows or height
    row = -(-width * sum(bits) // 8)
    strips = [zlib.compress(bytes(row * min(rows, height - top)), 1) for top in range(0, height, rows)]
    given = {259: (3, [8]), 278: (4, [rows]), **{int(name[1:]): value for name, value in tags.items()}}
    return files.tiff(width, height, strips, bits, photometric, tags=given)


def scans(pixels: int, count: int, content: str, **options: Any) -> bytes:
    return files.progressive_jpeg(CONTENTS[content](pixels), count, **options)


def cases() -> Iterator[tuple[str, Maker]]:
    """Every kind of file with what makes it dear."""
    for content in CONTENTS:
        yield f"JPEG {content}", written("JPEG", content, quality=95)
        yield f"progressive JPEG {content}", written("JPEG", content, quality=90, progressive=True, subsampling=0)
        yield f"WEBP {content}", written("WEBP", content, quality=90)
        yield f"lossless WEBP {content}", written("WEBP", content, lossless=True, quality=0, method=0)
        yield f"PNG {content}", written("PNG", content, compress_level=1)
        yield f"PNG RGBA {content}", written("PNG", content, "RGBA", compress_level=1)
        yield f"AVIF {content}", written("AVIF", content, speed=10, quality=90)
        yield f"AVIF 4:4:4 {content}", written("AVIF", content, speed=10, quality=90, subsampling="4:4:4")
        yield f"HEIF {content}", written("HEIF", content, quality=90)
        yield f"HEIF 4:4:4 {content}", written("HEIF", content, quality=90, chroma=444)
        yield f"JPEG2000 {content}", written("JPEG2000", content)
        yield f"JPEG2000 lossy {content}", written("JPEG2000", content, irreversible=True, quality_layers=[20])
        for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "zstd", "lzma"):
            yield f"TIFF {compression} {content}", written("TIFF", content, compression=compression)
        yield f"TIFF group4 {content}", written("TIFF", content, "1", compression="group4")
        yield (
            f"GIF {content}",
            lambda pixels, content=content: files.encode(  # type: ignore[misc]
                CONTENTS[content](pixels).quantize(256), "GIF"
            ),
        )
        yield f"PPM {content}", written("PPM", content)
        yield f"BMP {content}", written("BMP", content)
    for scan in (30, 100):
        yield f"JPEG of {scan} scans", partial(scans, count=scan, content="flat")
        yield f"JPEG of {scan} scans 4:4:4", partial(scans, count=scan, content="flat", subsampling=0)
    yield "JPEG of 20 scans noise", partial(scans, count=20, content="noise", quality=80)
    yield "JPEG CMYK", lambda pixels: files.encode(photo(pixels).convert("CMYK"), "JPEG", quality=90)
    yield "JPEG CMYK progressive", lambda pixels: files.encode(flat(pixels).convert("CMYK"), "JPEG", progressive=True)
    yield "PNG 1-bit", partial(png, depth=1, colour=0, channels=1)
    yield "PNG grey", partial(png, depth=8, colour=0, channels=1)
    yield "PNG grey and alpha", partial(png, depth=8, colour=4, channels=2)
    yield "PNG 16-bit grey", partial(png, depth=16, colour=0, channels=1)
    yield "PNG 16-bit RGB", partial(png, depth=16, colour=2, channels=3)
    yield "PNG 16-bit RGBA", partial(png, depth=16, colour=6, channels=4)
    yield "PNG 16-bit RGBA noise", noisy_png
    yield "PNG palette", lambda pixels: png(pixels, 8, 3, 1, (b"PLTE", bytes(range(9))), (b"tRNS", b"\x80"))
    yield "PNG one transparent colour", lambda pixels: png(pixels, 8, 2, 3, (b"tRNS", bytes(6)))
    yield "PNG of one column", lambda pixels: files.png(1, pixels, 1, 0, bytes(pixels))
    yield "PNG of tiny chunks", tiny_chunks
    yield "lossless WEBP of 34 bytes", lambda pixels: files.lossless_webp_of_nothing(*sides(pixels))
    yield "WEBP with alpha", written("WEBP", "photo", "RGBA", quality=90)
    yield "GIF transparent", lambda pixels: files.encode(flat(pixels, "P"), "GIF", transparency=1)
    yield "TIFF 16-bit RGBA", lambda pixels: tiff(pixels, [16] * 4, 2, t338=(3, [2]))
    yield "TIFF 16-bit grey", lambda pixels: tiff(pixels, [16], 1)
    yield "TIFF RGB, a row a strip", lambda pixels: tiff(pixels, [8] * 3, 2, strip_rows=1)
    yield "TIFF CMYK", lambda pixels: tiff(pixels, [8] * 4, 5)
    yield "TIFF Lab", lambda pixels: tiff(pixels, [8] * 3, 8)
    yield "PPM bits", lambda pixels: files.encode(flat(pixels, "1"), "PPM")
    yield "PPM of values up to 1000", lambda pixels: b"P5 %d %d 1000\n" % sides(pixels) + bytes(pixels * 2)
    yield "PPM plain bits", lambda pixels: b"P1 %d %d\n" % sides(pixels) + b"10" * (pixels // 2 + 1)
    yield "PPM plain grey", lambda pixels: b"P2 %d %d 65535\n" % sides(pixels) + b"65432 " * pixels
    yield "PPM plain colour", lambda pixels: b"P3 %d %d 255\n" % sides(pixels) + b"1 2 3 " * pixels
    yield "BMP 1-bit", lambda pixels: files.encode(flat(pixels, "1"), "BMP")
    yield "BMP of runs", runs
    yield "QOI photo", written("QOI", "photo")
    yield "QOI noise", written("QOI", "noise", "RGBA")
    yield "JPEG2000 4x4 blocks", written("JPEG2000", "flat", codeblock_size=(4, 4))
    yield "JPEG2000 4x4 blocks photo", written("JPEG2000", "photo", codeblock_size=(4, 4))
    yield "JPEG2000 16x16 tiles", written("JPEG2000", "photo", tile_size=(16, 16))
    yield "JPEG2000 64x64 tiles", written("JPEG2000", "flat", tile_size=(64, 64))
    yield "AVIF with alpha", written("AVIF", "photo", "RGBA", speed=10, quality=90)
    yield "HEIF with alpha", written("HEIF", "photo", "RGBA", quality=90)
    yield "HEIF grid", written("HEIF", "photo", quality=60, tile_size=512)


def measure(path: Path, *, without_limits: bool) -> dict[str, Any]:
    """Decode a file once in this process, which has decoded a small one."""
    preprocess = load_module(MODELS / "image_preprocess" / "1" / "preprocess.py")
    row, data = np.zeros((3, 256, 256), np.uint8), path.read_bytes()
    limits = {"max_decode_milliseconds": 10**9, "max_decode_bytes": 2**40} if without_limits else {}
    preprocessor = preprocess.Preprocessor((256, 256), max_image_bytes=2**31, **limits)
    preprocessor.fill(row, files.encode(flat(10_000), "PNG"))
    image = preprocess.read(data)
    factor = preprocessor.reduction(image) if isinstance(image, preprocess.Jpeg) else 1
    cost = image.reduced_cost(factor) if factor > 1 else image.cost
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    idle, begun, refused = _memory("VmRSS"), time.process_time(), ""
    try:
        preprocessor.fill(row, data)
    except preprocess.InvalidImage as error:
        refused = str(error)
    return {
        "seconds": time.process_time() - begun,
        "bytes": _memory("VmHWM") - idle,
        "reckoned_seconds": cost.nanoseconds / 1e9,
        "reckoned_bytes": cost.memory + (16 << 20),
        "pixels": image.width * image.height,
        "refused": refused,
    }


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _measured(path: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.sweep.image_costs", "--measure", str(path), *options]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def as_large_as_may_be(make: Maker, path: Path) -> None:
    """Write a file that nearly reaches one of the limits, by the cost of smaller ones."""
    pixels = MEGA // 8
    for most in (4 * MEGA, MOST_PIXELS):
        path.write_bytes(make(pixels))
        small = _measured(path)
        shares = (
            small["reckoned_seconds"] / MOST_SECONDS,
            (small["reckoned_bytes"] - (16 << 20)) / (496 << 20),
            path.stat().st_size / MOST_BYTES,
        )
        pixels = min(int(pixels * FULL / max(shares)), most)
    path.write_bytes(make(pixels))


def main() -> int:
    """Measure the kinds that are asked for; give 1 where one takes too much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("kinds", nargs="*", help="beginnings of kinds' names")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--without-limits", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        sys.stdout.write(json.dumps(measure(given.measure, without_limits=given.without_limits)))
        return 0
    pillow_heif.register_heif_opener()
    failures = 0
    print(f"{'kind':30} {'MP':>6} {'MB':>6} {'s':>6} {'of':>6} {'MB':>6} {'of':>6}")
    for name, make in cases():
        if given.kinds and not name.startswith(tuple(given.kinds)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image"
            as_large_as_may_be(make, path)
            runs = [_measured(path) for _ in range(3)]  # other work on the machine only adds
            found, size = min(runs, key=lambda run: float(run["seconds"])), path.stat().st_size
        is_dear = found["seconds"] > min(MOST_SECONDS, found["reckoned_seconds"] + 0.05)
        is_large = found["bytes"] > min(MOST_MEMORY, found["reckoned_bytes"])
        failures += is_dear or is_large
        print(
            f"{name:30} {found['pixels'] / MEGA:6.1f} {size / MEGA:6.1f} {found['seconds']:6.2f}"
            f" {found['reckoned_seconds']:6.2f} {found['bytes'] / MEGA:6.0f} {found['reckoned_bytes'] / MEGA:6.0f}"
            f" {'TOO MUCH ' if is_dear or is_large else ''}{found['refused'][:60]}",
            flush=True,
        )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
