"""Bytes of an image file to upright 8-bit pixels, or the reason why not, for the sender.

    bytes ─signatures.py─> format ─its reader─> Picture ─decoder─> ─flatten.py─> uint32 [H,W]

simplejpeg decodes JPEGs (jpeg_decoder.py), pillow_heif HEIF, and Pillow everything else.
"""

import importlib
import io
import re
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import bitmaps
import complaints
import gif
import heif
import jpeg
import jpeg2000
import netpbm
import numpy as np
import png
import tiff
import webp
from flatten import Pixels, flatten, packed, upright
from jpeg_decoder import decode_jpeg
from picture import InvalidImage, OutOfMemory, Picture, failed, truncated, unreadable
from PIL import AvifImagePlugin, ExifTags, Image
from signatures import identify

pillow_heif: Any = None
with suppress(ImportError):  # it may be left out; its wheels hold an encoder under the GPL
    pillow_heif = importlib.import_module("pillow_heif")
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)

Image.init()
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the processes share out the cores
# What Pillow thinks of callers' files is no concern of whoever reads the log.
warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif\.")

_SHORTAGE = re.compile(
    r"out of memory|insufficient memory|not enough memory|cannot allocate|unable to allocate"
    r"|memory allocation (?!error: security limit)",
    re.IGNORECASE,
)
_HEIF_BAND = 256  # rows

_READERS: dict[str, Callable[[bytes], Picture]] = {
    "JPEG": jpeg.read,
    "PNG": png.read,
    "WEBP": webp.read,
    "GIF": gif.read,
    "TIFF": tiff.read,
    "BMP": bitmaps.read_bmp,
    "DIB": bitmaps.read_dib,
    "PPM": netpbm.read,
    "JPEG2000": jpeg2000.read,
    "AVIF": partial(heif.read, format_name="AVIF"),
    "HEIF": partial(heif.read, format_name="HEIF"),
    "ICO": bitmaps.read_icon,
    "QOI": bitmaps.read_qoi,
}
FORMATS = tuple(name for name in _READERS if name in Image.OPEN)
"""The formats that are read here, as Pillow names them. All have a signature and are decoded inside this process."""


def read(data: bytes) -> Picture:
    """Read what the file says of itself. Raises InvalidImage."""
    name = identify(data)
    if name not in FORMATS:
        raise InvalidImage(f"{name}, for which this server has no decoder (pillow-heif): convert it to JPEG or PNG")
    try:
        return _READERS[name](data)
    except InvalidImage:
        raise
    except (LookupError, ValueError, ArithmeticError, struct.error) as error:
        raise unreadable(name) from error


def decode(picture: Picture, factor: int = 1) -> tuple[Pixels, bool]:
    """Decode the picture, a JPEG at 1/`factor`, and turn it upright; tell whether the result is CMYK.

    CMYK stays as it is: open_clip resizes before it converts. Raises InvalidImage and OutOfMemory.
    """
    try:
        if isinstance(picture, jpeg.Jpeg):
            return upright(decode_jpeg(picture, factor), picture.orientation), picture.components == 4
        if picture.format == "HEIF":
            return _decode_heif(picture), False
        return _decode_by_pillow(picture)
    except (InvalidImage, OutOfMemory):
        raise
    except Exception as error:  # what a decoder raises for damaged data is not limited to any list
        raise _reason(picture, error) from error


def _decode_by_pillow(picture: Picture) -> tuple[Pixels, bool]:
    Image.MAX_IMAGE_PIXELS = None  # its size has been looked at
    image = Image.open(io.BytesIO(picture.data), formats=(picture.format,))
    if picture.format == "TIFF":
        _load_tiff(image)
    else:
        image.load()
    if picture.format == "PNG":
        _refuse_missing_rows(image, picture)
    vars(image).pop("_decoder", None)  # WebP's and AVIF's hold as much as the picture, or more
    orientation = picture.orientation
    if picture.format == "AVIF":  # by the container's own properties
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return upright(flatten(image, picture), orientation), image.mode == "CMYK"


def _refuse_missing_rows(image: Image.Image, picture: Picture) -> None:
    """Refuse a PNG whose pixels end too early, though well-formed: Pillow leaves what is missing black."""
    last = image.height - 1 - (image.height % 2 if image.info.get("interlace") and image.height > 1 else 0)
    row = image.crop((0, last, image.width, last + 1))  # the one that is decoded last
    if (image.height == 1 or row.getbbox(alpha_only=False) is None) and not png.has_all_rows(picture.data):
        raise truncated("PNG", "rows are missing")


def _load_tiff(image: Image.Image) -> None:
    reason = ""
    with complaints.collected() as found:
        try:
            image.load()
        except OSError as error:  # of Pillow's, which says less than libtiff does
            reason = str(error)
    if found or reason:
        raise OSError(found[0] if found else reason)


def _decode_heif(picture: Picture) -> Pixels:
    """Decode the primary picture, which libheif also turns."""
    file = pillow_heif.open_heif(picture.data, convert_hdr_to_8bit=True)
    image = file[file.primary_index]
    if image.mode != "RGB":
        return flatten(image.to_pillow(), picture)
    data = image.data  # only now its size is certain
    (width, height), stride = image.size, image.stride
    pixels = np.empty((height, width), np.uint32)
    for top in range(0, height, _HEIF_BAND):  # Pillow's form of the whole picture would be one more copy
        rows = min(_HEIF_BAND, height - top)
        band = Image.frombuffer("RGB", (width, rows), data[top * stride :], "raw", "RGB", stride)
        pixels[top : top + rows] = packed(band)
    return pixels


def _reason(picture: Picture, error: Exception) -> InvalidImage | OutOfMemory:
    """Say why decoding failed. Decoders report a lack of memory in many ways, some as damage."""
    text = str(error)
    if isinstance(error, MemoryError) or _SHORTAGE.search(text):
        return OutOfMemory(text)
    with suppress(MemoryError):
        np.empty(int(picture.cost.memory), np.uint8)  # which fails at once where there is not so much
        return failed(picture.format, text or type(error).__name__)
    return OutOfMemory(text)
