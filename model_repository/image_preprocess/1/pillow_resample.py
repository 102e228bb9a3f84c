"""Resize with Pillow itself: the same pixels as resample.py without numba, in about five times the time.

Each axis is a pass of its own, in the order that is asked for, as Pillow does it inside. Unlike resample.py this makes
all of the resized image before what does not show is cut off.
"""

import numpy as np
from axis import Axis
from flatten import Pixels, packed
from image_file import InvalidImage
from numpy.typing import NDArray
from PIL import Image

_MOST_PIXELS = 1 << 26  # between the passes: 256 MiB
_WEIGHTS = 10  # pixels that a pixel's weights weigh as much as, where the image grows


def resample(pixels: Pixels, horizontal: Axis, vertical: Axis, *, vertical_first: bool, cubic: bool) -> Pixels:
    """Do what resample.py does. Raises InvalidImage for an image so long and thin that too much would be cut off."""
    height, width = pixels.shape
    # CMYK is Pillow's mode of four channels of which each is resized by itself, whatever they hold.
    image = Image.frombuffer("CMYK", (width, height), np.ascontiguousarray(pixels), "raw", "CMYK", 0, 1)
    method = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    if vertical_first:
        return packed(_across(_down(image, vertical, method), horizontal, method))
    return packed(_down(_across(image, horizontal, method), vertical, method))


def separate(pixels: Pixels, row: NDArray[np.uint8], top: int, left: int) -> None:
    """Write red, green and blue of `pixels` into `row` [3,H,W], each into its plane at this place."""
    height, width = pixels.shape
    for channel, plane in enumerate(row[:, top : top + height, left : left + width]):
        np.copyto(plane, pixels >> 8 * channel, casting="unsafe")


def _across(image: Image.Image, axis: Axis, method: Image.Resampling) -> Image.Image:
    if not axis.is_kept:
        _check(axis, image, image.height)
        image = image.resize((axis.full, image.height), method, (0, 0, axis.extent, image.height))
    return image.crop((axis.start, 0, axis.start + axis.shown, image.height))


def _down(image: Image.Image, axis: Axis, method: Image.Resampling) -> Image.Image:
    if not axis.is_kept:
        _check(axis, image, image.width)
        image = image.resize((image.width, axis.full), method, (0, 0, image.width, axis.extent))
    return image.crop((0, axis.start, image.width, axis.start + axis.shown))


def _check(axis: Axis, image: Image.Image, across: int) -> None:
    if axis.full * max(across, _WEIGHTS) > _MOST_PIXELS:
        raise InvalidImage(f"{image.width}x{image.height} is too long and thin for Pillow's resize")
