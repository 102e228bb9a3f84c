"""PIL images and arrays, as PNG: lossless, and such that the server sees what Python saw.

A path and the image that was opened from it must give the same vector. So the camera's orientation goes along, unless
Pillow has turned the image already, and nothing else does.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

_ORIENTATION = 0x0112
_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 258, 259, 262, 284, 339  # tags of TIFF
_AS_THEY_ARE = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_OTHERWISE = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"} | dict.fromkeys(("CMYK", "YCbCr", "HSV", "LAB", "RGBX"), "RGB")
_OTHER_BYTE_ORDERS = frozenset({"I;16L", "I;16B", "I;16N"})
_RANGE_KNOWN = frozenset({"PPM", "PNG"})
"""formats whose 32-bit integers Pillow makes of 16-bit ones"""


class UnusableImage(ValueError):
    """Why there is no PNG of an image."""


def png_of_array(array: npt.NDArray[Any]) -> bytes:
    """A uint8 array [H,W], [H,W,3] (RGB) or [H,W,4] (RGBA) as PNG. Raises UnusableImage."""
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not is_image or array.size == 0:
        shape = "x".join(str(length) for length in array.shape)
        raise UnusableImage(
            f"expected a uint8 array of H x W, H x W x 3 or H x W x 4, got {array.dtype} of {shape or 'no axis'}"
        )
    return _png(Image.fromarray(array))


def png_of_image(image: Image.Image) -> bytes:
    """A PIL image as PNG. Raises UnusableImage."""
    if not all(image.size):
        raise UnusableImage(f"the PIL image has no pixels: {image.width} x {image.height}")
    try:
        # First: only then are the pixels and the orientation what they will be. Of a TIFF, Pillow turns the pixels.
        image.load()
        _refuse_misread(image)
        return _png(_for_png(image), _orientation(image))
    except (UnusableImage, MemoryError):
        raise
    except Exception as exc:  # what a decoder raises is not limited to any list; a closed file shows here, too
        raise UnusableImage(f"PIL cannot read it: {exc or type(exc).__name__}") from exc


def _refuse_misread(image: Image.Image) -> None:
    """Refuse kinds of TIFF that Pillow takes for others, in silence; the server, given the file, does not."""
    tags = getattr(image, "tag_v2", None)
    if not tags or image.format != "TIFF":
        return
    bits, is_planar = max(tags.get(_BITS, (1,))), tags.get(_PLANAR, 1) == 2
    is_deep_planes = bits > 8 and is_planar and tags.get(_COMPRESSION, 1) == 1
    is_inverted = bits > 8 and tags.get(_PHOTOMETRIC) == 0
    is_signed = bits == 8 and 2 in tags.get(_SAMPLE_FORMAT, (1,))
    if is_deep_planes or is_inverted or is_signed or (is_planar and image.mode in ("LA", "La")):
        raise UnusableImage("PIL misreads this kind of TIFF: give its path or its bytes")


def _for_png(image: Image.Image) -> Image.Image:
    """The image in a mode that PNG has."""
    if image.mode in _AS_THEY_ARE:
        return image
    if image.mode in _OTHER_BYTE_ORDERS or (image.mode == "I" and image.format in _RANGE_KNOWN):
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes all inks for Adobe's, which are inverted
    if image.mode in _OTHERWISE:
        return image.convert(_OTHERWISE[image.mode])
    remedy = (
        "the range of its values is not known; convert it to L or RGB" if image.mode in "IF" else "convert it to RGB"
    )
    raise UnusableImage(f"PIL images of mode {image.mode} are not supported: {remedy}")


def _orientation(image: Image.Image) -> int | None:
    """The camera's orientation, 2 to 8; broken camera data count as upright, as they do on the server."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:
        return None
    return value if isinstance(value, int) and 2 <= value <= 8 else None


def _png(image: Image.Image, orientation: int | None = None) -> bytes:
    options: dict[str, Any] = {"icc_profile": None}
    if orientation:
        options["exif"] = Image.Exif()
        options["exif"][_ORIENTATION] = orientation
    if not _has_usable_transparency(image):
        options["transparency"] = None
    buffer = io.BytesIO()
    # Fast rather than small: the bytes live as long as one request.
    image.save(buffer, "PNG", compress_level=1, **options)
    return buffer.getvalue()


def _has_usable_transparency(image: Image.Image) -> bool:
    """Whether what the image notes of its transparent colour fits its mode; it may be left over from another one."""
    noted = image.info.get("transparency")
    if image.mode == "P":
        return isinstance(noted, int | bytes)
    if image.mode == "RGB":
        return isinstance(noted, tuple) and len(noted) == 3
    return isinstance(noted, int)
