"""Decoding JPEGs. What libjpeg warns of decides: whole images are shown, damaged ones refused.

simplejpeg is libjpeg-turbo, as Pillow is, and gives the same pixels in two thirds of the time; and it tells of
libjpeg's first warning, which Pillow keeps to itself. Where pixels are missing libjpeg fills up with grey.
"""

import io
import re

import numpy as np
import simplejpeg
from flatten import Pixels
from image_file import InvalidImage, truncated
from jpeg import Jpeg, bare
from numpy.typing import NDArray
from PIL import Image

Channels = NDArray[np.uint8]
"""[H,W,4]: red, green, blue and nothing, or the four inks as they are stored"""

_SURPLUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_NO_PIXELS = b"\x55" * 16


def decode_jpeg(file: Jpeg, factor: int) -> Pixels:
    """Decode at 1/`factor`. Raises InvalidImage, and whatever numpy and Pillow raise."""
    channels, warning = _decode(file, file.data, factor)
    if "ICC" in warning:  # a broken profile, found before anything is decoded
        channels, warning = _decode(file, bare(file.data), factor)
    if "subsampling" in warning:  # libjpeg reads it, but the interface that simplejpeg uses does not know it
        channels = _decode_unusual(file, factor)
    elif "premature end" in warning:
        raise _pixels_are_missing()
    elif warning and not _is_padding(warning, file):
        raise ValueError(warning)
    if file.is_inverted:
        np.invert(channels, out=channels)
    pixels: Pixels = channels.view(np.uint32)[..., 0]
    return pixels


def _decode(file: Jpeg, data: bytes, factor: int) -> tuple[Channels, str]:
    """Decode, and give what libjpeg warns of first, or fails of; all that can be read has been then."""
    height, width = -(-file.height // factor), -(-file.width // factor)
    least = {} if factor == 1 else {"min_height": height, "min_width": width}
    channels = np.empty((height, width, 4), np.uint8)
    try:
        simplejpeg.decode_jpeg(data, "CMYK" if file.components == 4 else "RGBX", buffer=channels, **least)
    except ValueError as error:
        return channels, str(error)
    return channels, ""


def _is_padding(warning: str, file: Jpeg) -> bool:
    """Tell whether libjpeg warns of nothing but padding between the last pixels and the end marker.

    It is the first warning, so all pixels are there. Other bytes than padding are pixels that were not understood.
    """
    match = _SURPLUS.search(warning)
    if match is None:
        return False
    end = file.data.find(b"\xff\xd9", file.scan_start)
    return len(set(file.data[end - int(match[1]) : end])) == 1


def _decode_unusual(file: Jpeg, factor: int) -> Channels:
    """Decode with Pillow. Raises InvalidImage where pixels are missing.

    Pillow does not tell. But then bytes before the end marker are read as pixels, and otherwise they are not.
    """
    end = file.data.find(b"\xff\xd9", file.scan_start)
    channels = _decode_by_pillow(file.data, factor)
    if (channels != _decode_by_pillow(file.data[:end] + _NO_PIXELS + file.data[end:], factor)).any():
        raise _pixels_are_missing()
    return channels


def _pixels_are_missing() -> InvalidImage:
    return truncated("JPEG", "image file is truncated, pixels are missing")


def _decode_by_pillow(data: bytes, factor: int) -> Channels:
    image = Image.open(io.BytesIO(bare(data)), formats=("JPEG",))
    if factor > 1:
        image.draft("", (image.width // factor, image.height // factor))
    image.load()
    if image.mode == "CMYK":
        return np.invert(np.asarray(image, np.uint8))  # Pillow takes it for Adobe's
    rgbx = image.convert("RGB").tobytes("raw", "RGBX")
    return np.frombuffer(rgbx, np.uint8).reshape(image.height, image.width, 4)
