"""Bytes of an image file in, the model's pixels out: open_clip's evaluation transform without torch.

    bytes ─check─> header ─check─> decode ─> orient ─> flatten ─> resize with a box ─> uint8 [3,H,W] row

Nothing here knows Triton. Every image that cannot be used raises `InvalidImage` with a reason for its sender; the
caller owns the batch array and gets one row of it filled per call.

The reference is `open_clip.transform.image_transform(is_train=False)` before its normalisation (the image encoder
does that itself). For RGB, grey and CMYK images the pixels differ from it by one level at most. Where open_clip
would do something that is not meant (drop the alpha channel, clip 16-bit values, resize palette indices, ignore the
camera's orientation) the image is first made upright and 8-bit, transparency over white. Colour profiles are
ignored, as open_clip ignores them.
"""

import importlib
import io
import struct
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

with suppress(ImportError):  # HEIC, where the plugin is installed
    importlib.import_module("pillow_heif").register_heif_opener()
Image.init()

# Formats with a signature, decoded inside this process. Left out on purpose: EPS (runs Ghostscript), WMF (needs a
# renderer), TGA and others without a signature, and rarities that no photograph arrives in. MPO opens as JPEG.
_ALLOWED = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "HEIF", "ICO", "QOI")
FORMATS = tuple(name for name in _ALLOWED if name in Image.OPEN)

# Pillow itself raises above twice its limit (`_open` makes that ours) and warns above once.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

# What must be done to the stored image so that it stands upright, by EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# A JPEG may be decoded at 1/2, 1/4 or 1/8 as long as the resize after it still shrinks by this much on both axes:
# then bicubic's low-pass, not the decoder's box filter, decides the result. Measured on 12-megapixel mosaics of
# sharp photographs to 256 px: at 2.7 and above 99.9 % of values within 3 levels, mean below 0.35, pixel cosine
# 0.9999; at 1.4 it is 14 levels and 0.9997. 12 megapixels to 256 px: 29 ms instead of 98 ms.
_SHRINK_AFTER_REDUCTION = 2.5

# An image more than 256 times as long as wide at 256 px would fill memory at full length; it takes the single pass.
_LONGEST_EXACT = 65_536
_ORDERS_AXES = int(PIL.__version__.split(".")[0]) >= 13

Row = NDArray[np.uint8]
Box = tuple[float, float, float, float]


class InvalidImage(ValueError):
    """An image that cannot be used; the message is the reason, for the sender."""


class Fit(NamedTuple):
    """Where a source goes. The whole of it would be resized to `full` (width, height) and lie at `offset` (left, top)
    in the row, negative where it is cropped; `box` (left, top, right, bottom) in source pixels is the part that shows,
    and `size` (width, height) what it becomes."""

    full: tuple[int, int]
    offset: tuple[int, int]
    box: Box
    size: tuple[int, int]


@dataclass(frozen=True)
class Preprocessor:
    """The transform of one model. `size` is (height, width) of the row; the limits are bytes and pixels an image."""

    size: tuple[int, int]
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"
    fill_color: int = 0
    max_image_bytes: int = 33_554_432
    max_image_pixels: int = 100_000_000
    reduced_decoding: bool = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preprocessor":
        """Read Triton's model configuration (parsed JSON): the output's dims and the parameters.

        Raises ValueError for a value it does not know, naming the parameter.
        """
        dims = next(output["dims"] for output in config["output"] if output["name"] == "pixels")
        if len(dims) != 3 or int(dims[0]) != 3 or min(int(dim) for dim in dims) < 1:
            raise ValueError(f"output pixels: dims must be [3, height, width], not {dims}")
        given = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        return cls(
            size=(int(dims[1]), int(dims[2])),
            resize_mode=_choice(given, "resize_mode", ("shortest", "squash", "longest")),
            interpolation=_choice(given, "interpolation", tuple(_RESAMPLING)),
            fill_color=_integer(given, "fill_color", 0, 0, 255),
            max_image_bytes=_integer(given, "max_image_bytes", cls.max_image_bytes, 1, 2**31 - 1),
            max_image_pixels=_integer(given, "max_image_pixels", cls.max_image_pixels, 1, 2**31 - 1),
            reduced_decoding=_choice(given, "reduced_decoding", ("true", "false")) == "true",
        )

    def fill(self, row: Row, data: bytes) -> None:
        """Decode one image file and write its pixels into `row`, uint8 [3,H,W], RGB.

        Raises InvalidImage. The row's content is undefined then.
        """
        image, fit = self._decode(data)
        _write(_resample(image, fit, self._resampling), row, fit.offset, self.fill_color)

    @property
    def _resampling(self) -> Image.Resampling:
        # open_clip does not hand its interpolation to the resize of a target that is not square.
        if self.resize_mode == "shortest" and self.size[0] != self.size[1]:
            return Image.Resampling.BICUBIC
        return _RESAMPLING[self.interpolation]

    def _decode(self, data: bytes) -> tuple[Image.Image, Fit]:
        """Give the upright image in mode L, RGB or CMYK, and where it goes."""
        if not data:
            raise InvalidImage("empty: no bytes")
        if len(data) > self.max_image_bytes:
            raise InvalidImage(f"{len(data)} bytes, more than the limit of {self.max_image_bytes}")
        stored = self._open(data)
        if stored.width * stored.height > self.max_image_pixels:
            raise self._too_many_pixels(f"{stored.width}x{stored.height} is ")
        reduced_fit = self._reduce(stored)
        try:
            stored.load()
        except Image.DecompressionBombError as error:
            raise self._too_many_pixels() from error
        except Exception as error:  # what a decoder raises for damaged data is not limited to any list
            raise _undecodable(stored.format, error) from error
        try:
            image = _flatten(stored, _upright(stored))
        except Exception as error:
            raise InvalidImage(f"{stored.format} of mode {stored.mode} cannot be converted to RGB: {error}") from error
        return image, reduced_fit or self._fit(*image.size)

    def _open(self, data: bytes) -> Image.Image:
        """Read the header only."""
        # A global of Pillow, and the one guard for images inside images (ICO): set on each call, so that the limit
        # of the transform at work holds whatever else the process did.
        Image.MAX_IMAGE_PIXELS = (self.max_image_pixels + 1) // 2
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise self._too_many_pixels() from error
        except UnidentifiedImageError as error:
            raise InvalidImage(_unidentified(data)) from error
        except Exception as error:
            raise _undecodable(_signature(data), error) from error

    def _too_many_pixels(self, size: str = "") -> InvalidImage:
        return InvalidImage(f"{size}more pixels than the limit of {self.max_image_pixels}")

    def _reduce(self, stored: Image.Image) -> Fit | None:
        """Let a very large JPEG be decoded at 1/2, 1/4 or 1/8; give the fit of what will be decoded then."""
        if not self.reduced_decoding or stored.format not in ("JPEG", "MPO"):
            return None
        (width, height), orientation = stored.size, _orientation(stored)
        fit = self._fit(height, width) if orientation >= 5 else self._fit(width, height)
        left, top, right, bottom = fit.box
        shrink = min((right - left) / fit.size[0], (bottom - top) / fit.size[1])
        factors = [n for n in (8, 4, 2) if shrink / n >= _SHRINK_AFTER_REDUCTION]
        # The decoder rounds the size up. Turned to the left or the top, that part of a pixel would shift the image.
        factor = next((n for n in factors if orientation == 1 or width % n == height % n == 0), 1)
        if factor == 1 or stored.draft("", (width // factor, height // factor)) is None:
            return None
        # Divided, not fitted to the rounded size; and in one pass, whatever the order of the axes.
        return fit._replace(box=(left / factor, top / factor, right / factor, bottom / factor), full=fit.size)

    def _fit(self, width: int, height: int) -> Fit:
        """Place an upright source of this size as open_clip would, resize and crop (or pad) in one step."""
        rows, columns = self.size
        if self.resize_mode == "squash":
            return Fit((columns, rows), (0, 0), (0, 0, width, height), (columns, rows))
        if self.resize_mode == "longest":
            ratio = max(height / rows, width / columns)
            # open_clip fails where a side rounds to nothing; one pixel is the nearest that works.
            size = max(1, round(width / ratio)), max(1, round(height / ratio))
            return Fit(size, ((columns - size[0]) // 2, (rows - size[1]) // 2), (0, 0, width, height), size)
        if rows != columns:
            ratio = min(height / rows, width / columns)
            full = round(width / ratio), round(height / ratio)
        elif width <= height:
            full = columns, int(columns * height / width)
        else:
            full = int(rows * width / height), rows
        left, top = round((full[0] - columns) / 2), round((full[1] - rows) / 2)
        x, y = width / full[0], height / full[1]
        # Rounding must not push the box over the edge: Pillow refuses that.
        box = (left * x, top * y, min((left + columns) * x, width), min((top + rows) * y, height))
        return Fit(full, (-left, -top), box, (columns, rows))


def _choice(given: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """Give the parameter's value; the first choice is the default."""
    value = given.get(name, choices[0])
    if value not in choices:
        raise ValueError(f"parameter {name}: {value!r} is not one of {', '.join(choices)}")
    return value


def _integer(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    value = given.get(name, str(default))
    if not value.isdecimal() or not least <= int(value) <= most:
        raise ValueError(f"parameter {name}: {value!r} is not a whole number from {least} to {most}")
    return int(value)


def _signature(data: bytes) -> str | None:
    """Name the format whose signature the data starts with."""
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        with suppress(IndexError, struct.error):  # fewer bytes than the signature has
            if accept and accept(data[:16]) is True:
                return name
    return None


def _unidentified(data: bytes) -> str:
    name = _signature(data)
    if name:
        return f"unreadable {name} header: truncated, damaged or of zero size"
    if data[:32].isascii() and data[:32].decode().isprintable():
        return f"text, not the bytes of an image file: it starts with {data[:32].decode()!r}"
    return f"unknown image format: it starts with {data[:8].hex(' ')}"


def _undecodable(name: str | None, error: Exception) -> InvalidImage:
    text = str(error) or type(error).__name__
    truncated = any(word in text.lower() for word in ("truncat", "not enough", "premature"))
    return InvalidImage(f"{'truncated' if truncated else 'damaged or truncated'} {name or 'image'}: {text}")


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8. Damaged metadata does not spoil a good image: it counts as upright."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _upright(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    return image if orientation == 1 else image.transpose(_UPRIGHT[orientation])


def _flatten(stored: Image.Image, image: Image.Image) -> Image.Image:
    """Give an 8-bit image without transparency, in mode L, RGB or CMYK (which `_write` can take).

    CMYK stays as it is: open_clip resizes before it converts, and so the result is the same. `stored` has the
    header's details, `image` the upright pixels.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and stored.format in ("PPM", "PNG")):
        return _from_16_bits(stored, image)
    if image.mode in ("I", "F"):
        raise ValueError("the range of 32-bit values is not known; store it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image)
        return white
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_16_bits(stored: Image.Image, image: Image.Image) -> Image.Image:
    """Scale grey levels to 8 bits (Pillow's own conversion clips them at 255)."""
    levels = np.asarray(image).astype(np.int64)
    # TIFF alone stores 12 bits (and others) as they are; everything else fills the 16.
    bits = getattr(stored, "tag_v2", {}).get(258, (16,))[0]
    most = 2**bits - 1
    grey = np.clip((levels * 255 + most // 2) // most, 0, 255).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[levels == transparent] = 255
    return Image.fromarray(grey)


def _resample(image: Image.Image, fit: Fit, resampling: Image.Resampling) -> Image.Image:
    """Resize the box to the fit's size, in one pass wherever that gives what open_clip's resize and crop give.

    Pillow resizes one axis, rounds and clips to 8 bits, and resizes the other. So two things can show:
    - the order of the axes, by 20 levels at hard edges: the crop inside the resize must not change it;
    - the box, which Pillow keeps in 32-bit floats: it turns a rounding in the first pass here and there, and where
      the image is hardly reduced or enlarged, neighbours add up to two levels. From a scale of 1.6 they cannot.
    """
    left, top, right, bottom = fit.box
    width, height = fit.size
    if (right - left, bottom - top) == fit.size and left == int(left) and top == int(top):
        # Whole pixels at scale 1: what the resize would copy, without its arithmetic.
        return _crop(image, left, top, right, bottom)
    vertical_first = _vertical_first(image.size, fit.full)
    same_order = vertical_first == _vertical_first(image.size, fit.size)
    precise = bottom - top >= 1.6 * height or fit.full == fit.size or max(fit.full) > _LONGEST_EXACT
    if same_order and precise:
        return image.resize(fit.size, resampling, box=fit.box)
    x, y = max(0, -fit.offset[0]), max(0, -fit.offset[1])
    if vertical_first:
        image = _crop(image.resize((image.width, fit.full[1]), resampling), 0, y, image.width, y + height)
        return image.resize(fit.size, resampling, box=(left, 0, right, height))
    # Bicubic reaches 2 target pixels, or 2 source pixels where it enlarges: the rows that count.
    reach = int(2 * max(1, (bottom - top) / height)) + 2
    first, last = max(0, int(top) - reach), min(image.height, int(bottom) + reach)
    image = _crop(image, 0, first, image.width, last)
    image = _crop(image.resize((fit.full[0], image.height), resampling), x, 0, x + width, image.height)
    return image.resize(fit.size, resampling, box=(0, top - first, width, bottom - first))


def _crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Crop to whole pixels. Not by `Image.crop`, which refuses what is larger than the limit on what is decoded."""
    size = (int(right - left), int(bottom - top))
    return image.resize(size, Image.Resampling.NEAREST, box=(left, top, right, bottom))


def _vertical_first(source: tuple[int, int], target: tuple[int, int]) -> bool:
    """Tell whether Pillow resizes the height before the width, which 13 and later do where it shrinks much more.

    The rule is not documented (Pillow's pull request 9549); it was found by comparing with single passes, and the
    parity tests hold it.
    """
    (width, height), (target_width, target_height) = source, target
    return _ORDERS_AXES and height > target_height and height - target_height > 2 * (width - target_width)


def _write(image: Image.Image, row: Row, offset: tuple[int, int], fill_color: int) -> None:
    """Copy the channels into `row` [3,H,W], plane by plane: Pillow unpacks one 3 times as fast as numpy transposes."""
    (width, height), (left, top) = image.size, (max(0, offset[0]), max(0, offset[1]))
    if (height, width) != row.shape[1:]:
        row[...] = fill_color
    if image.mode == "CMYK":
        image = image.convert("RGB")
    for plane, channel in zip(row, "LLL" if image.mode == "L" else "RGB", strict=True):
        values = np.frombuffer(image.tobytes("raw", channel), np.uint8)
        plane[top : top + height, left : left + width] = values.reshape(height, width)
