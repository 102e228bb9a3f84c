"""What decoding takes: measured rates by kind of file, and the limits to which an image is held beforehand."""

from dataclasses import dataclass
from typing import NamedTuple

from image_file import Cost, ImageFile, InvalidImage

# Pillow keeps a pointer to each row and starts each anew; a decoder has some state a row.
_ROW_NANOSECONDS, _ROW_BYTES = 60, 40

_WORKING_BYTES = 16 << 20  # for bands of an image on their way from one form to another
_MAX_WIDTH = 2**26 - 1  # Pillow counts the bits of a row in 32 of them


class Rate(NamedTuple):
    """What one kind of file takes at most: time by its pixels and by its bytes, memory by its pixels."""

    nanoseconds: float
    nanoseconds_a_byte: float = 0
    memory: float = 0

    def of(self, count: float, file_bytes: int = 0, rows: int = 0) -> Cost:
        """Reckon the cost of so many pixels (or samples, scans, strips) in a file of so many bytes."""
        nanoseconds = self.nanoseconds * count + self.nanoseconds_a_byte * file_bytes + _ROW_NANOSECONDS * rows
        return Cost(nanoseconds, self.memory * count + 2.0 * file_bytes + _ROW_BYTES * rows)


# Nanoseconds a pixel, nanoseconds a byte of the file, bytes a pixel. What tests/sweep/image_costs.py measures must lie
# below; docs/images.md shows the table.
RATES = {
    "JPEG": Rate(14, 12, 4),
    "progressive JPEG": Rate(20, 45, 4),
    "JPEG scan": Rate(0.6),
    "PNG": Rate(15, 5, 4),
    "PNG sample byte": Rate(4),
    "PNG alpha": Rate(10),
    "PNG chunk": Rate(5000),
    "WebP": Rate(32, 80, 17),
    "lossless WebP": Rate(45, 20, 17),
    "GIF": Rate(20, 5, 6),
    "TIFF": Rate(20, 6, 8),
    "TIFF sample byte": Rate(6),
    "TIFF strip": Rate(5000),
    "PPM": Rate(15, 2, 8),
    "plain PPM sample": Rate(800, 40, 4),
    "BMP": Rate(18, 2, 8),
    "run-length BMP": Rate(550, 50, 8),
    "ICO mask": Rate(20, 0, 8),
    "QOI": Rate(2300, 0, 12),
    "JPEG2000": Rate(60, 220, 20),
    "JPEG2000 tile": Rate(20_000, 0, 1000),
    "JPEG2000 block": Rate(500, 0, 450),
    "AVIF": Rate(30, 120, 12),
    "HEIF": Rate(50, 140, 10),
}


@dataclass(frozen=True)
class Limits:
    """What decoding one image may take: pixels, milliseconds and bytes of memory beside the file itself."""

    pixels: int
    milliseconds: int
    memory: int

    def check(self, file: ImageFile, cost: Cost) -> None:
        """Refuse an image that goes beyond. Raises InvalidImage."""
        size = f"{file.width}x{file.height}"
        if file.width * file.height > self.pixels:
            raise InvalidImage(f"{size} is more pixels than the limit of {self.pixels}")
        if file.width > _MAX_WIDTH:
            raise InvalidImage(f"{file.width} pixels wide, more than the limit of {_MAX_WIDTH}")
        if cost.nanoseconds > self.milliseconds * 1e6:
            raise InvalidImage(
                f"{file.kind} of {size} takes up to {cost.nanoseconds / 1e9:.1f} s to decode, "
                f"more than the limit of {self.milliseconds / 1000:g} s"
            )
        memory = cost.memory + _WORKING_BYTES
        if memory > self.memory:
            raise InvalidImage(
                f"{file.kind} of {size} takes up to {memory / 2**20:.0f} MiB to decode, "
                f"more than the limit of {self.memory / 2**20:.0f} MiB"
            )
