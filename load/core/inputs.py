"""Images and texts to send: made once, outside the clock, the same for the same seed.

The images are photographs: each is a piece of one of samples/photos, turned, mirrored and recoloured at random, so
that a model gives each another vector, and an answer tells which image it belongs to. Encoded files weigh what
photographs of their size weigh, and cost as much to decode. Locust's workers import this: nothing here needs torch.
"""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SMALLEST_PIECE = 0.35  # of a photograph's side
COLOUR_GAINS = (0.5, 1.5)
GRAIN = 4.0  # standard deviation of the noise, of 255: photographs have some, and enlarged ones have lost theirs
TILE = 256  # pixels; the grain repeats
Format = Literal["JPEG", "PNG", "WEBP"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class Spec:
    """What images to make: `count` files of one size in pixels and one format; `quality` is of JPEG and WEBP."""

    width: int = 640
    height: int = 480
    format: Format = "JPEG"
    count: int = 16
    seed: int = 0
    quality: int = 90

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.count) < 1:
            raise ValueError(f"{self}: width, height and count must be positive")
        if self.format not in FORMATS:
            raise ValueError(f"{self}: the format must be one of {', '.join(FORMATS)}")


@cache
def images(spec: Spec) -> tuple[bytes, ...]:
    """The encoded files of a spec. Twelve megapixels take about a second each, so they are kept for the next caller."""
    generator = np.random.default_rng(spec.seed)
    photos = _photos()
    return tuple(_encode(_draw(photos[number % len(photos)], spec, generator), spec) for number in range(spec.count))


@cache
def sentences(count: int, seed: int = 0) -> tuple[str, ...]:
    """Different sentences, as people write them about photographs; another seed gives other ones.

    The first `count` of a longer list are the same. A server's response cache knows none that it was not sent before.
    """
    lines = (SAMPLES / "sentences.txt").read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(seed).permutation(len(lines))
    return tuple(
        f"{lines[order[number % len(lines)]]}, photo {number // len(lines)} of album {seed}" for number in range(count)
    )


def respelled(text: str, number: int) -> str:
    """The same to the model, which strips texts; other bytes to a cache: the number in blanks and tabs at the end."""
    return text + f"{number:b}".replace("0", " ").replace("1", "\t")


@cache
def _photos() -> tuple[Image.Image, ...]:
    return tuple(Image.open(path).convert("RGB") for path in sorted((SAMPLES / "photos").glob("*.jpg")))


def _draw(photo: Image.Image, spec: Spec, generator: np.random.Generator) -> Image.Image:
    """A random piece of a photograph, turned, mirrored and recoloured, at the size of the spec."""
    photo = photo.rotate(90 * int(generator.integers(4)), expand=True)
    share = generator.uniform(SMALLEST_PIECE, 1.0)
    width, height = round(photo.width * share), round(photo.height * share)
    left, top = generator.integers(photo.width - width + 1), generator.integers(photo.height - height + 1)
    piece = photo.resize(
        (spec.width, spec.height), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)
    )
    if generator.random() < 0.5:
        piece = ImageOps.mirror(piece)
    pixels = np.asarray(piece, dtype=np.float32) * generator.uniform(*COLOUR_GAINS, size=3).astype(np.float32)
    tile = GRAIN * generator.standard_normal((TILE, TILE, 3), dtype=np.float32)  # drawing it all takes seconds
    repeats = (-(-spec.height // TILE), -(-spec.width // TILE), 1)
    pixels += np.tile(tile, repeats)[: spec.height, : spec.width]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _encode(image: Image.Image, spec: Spec) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, spec.format, **({} if spec.format == "PNG" else {"quality": spec.quality}))
    return buffer.getvalue()
