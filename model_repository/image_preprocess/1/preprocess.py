"""Bytes of an image file in, the model's pixels out: open_clip's evaluation transform without torch.

    bytes ─decode.py─> ImageFile ─costs.py─> allowed ─decode.py─> upright pixels ─resample.py─> uint8 [3,H,W] row

Nothing here knows Triton. Every image that cannot be used raises `InvalidImage` with a reason for its sender, a lack of
memory `OutOfMemory`; the caller owns the batch array and gets one row of it filled per call.

The reference is `open_clip.transform.image_transform(is_train=False)` before its normalisation (the image encoder
does that itself). For RGB, grey and CMYK images the pixels are equal to it, unless a very large JPEG is decoded at
reduced scale. Where open_clip would do something that is not meant (drop the alpha channel, clip 16-bit values, resize
palette indices, ignore the camera's orientation) the image is first made upright and 8-bit, transparency over white.
Colour profiles are ignored, as open_clip ignores them.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
from axis import Axis
from costs import Limits
from decode import FORMATS, decode, read
from flatten import Pixels, to_rgb
from image_file import ImageFile, InvalidImage, OutOfMemory
from jpeg import Jpeg
from numpy.typing import NDArray

__all__ = ["FORMATS", "InvalidImage", "OutOfMemory", "Preprocessor", "Row"]

# A JPEG may be decoded at 1/2, 1/4 or 1/8 as long as the resize after it still shrinks by this much on both axes:
# then bicubic's low-pass, not the decoder's box filter, decides the result. Measured on 12-megapixel mosaics of
# sharp photographs to 256 px: at 2.7 and above 99.9 % of values within 3 levels, mean below 0.35, pixel cosine
# 0.9999; at 1.4 it is 14 levels and 0.9997. 12 megapixels to 256 px: 29 ms instead of 98 ms.
_SHRINK_AFTER_REDUCTION = 2.5

# The modules that resize, to the same pixels. The first wants numba, the second is there in case of trouble with it.
_RESIZES = {"compiled": "resample", "pillow": "pillow_resample"}

# Of Triton's Python backend itself, for any of its models.
_BACKEND_PARAMETERS = {"EXECUTION_ENV_PATH", "FORCE_CPU_ONLY_INPUT_TENSORS"}

Row = NDArray[np.uint8]


@dataclass(frozen=True)
class Preprocessor:
    """The transform of one model. `size` is (height, width) of the row; the limits are bytes and pixels an image."""

    size: tuple[int, int]
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"
    resize: str = "compiled"
    fill_color: int = 0
    max_image_bytes: int = 33_554_432
    max_image_pixels: int = 100_000_000
    reduced_decoding: bool = True
    max_decode_milliseconds: int = 2000
    max_decode_bytes: int = 536_870_912

    def __post_init__(self) -> None:
        """Have the resize compiled now, so that no image waits for it."""
        _ = self._resize

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preprocessor":
        """Read Triton's model configuration (parsed JSON): the output's dims and the parameters.

        Raises ValueError for a parameter or a value it does not know, naming the parameter.
        """
        dims = next(output["dims"] for output in config["output"] if output["name"] == "pixels")
        if len(dims) != 3 or int(dims[0]) != 3 or min(int(dim) for dim in dims) < 1:
            raise ValueError(f"output pixels: dims must be [3, height, width], not {dims}")
        given = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        known = {field.name for field in fields(cls)} - {"size"} | _BACKEND_PARAMETERS
        if unknown := sorted(given.keys() - known):
            raise ValueError(f"parameter {unknown[0]}: not one of {', '.join(sorted(known - _BACKEND_PARAMETERS))}")
        return cls(
            size=(int(dims[1]), int(dims[2])),
            resize_mode=_choice(given, "resize_mode", ("shortest", "squash", "longest")),
            interpolation=_choice(given, "interpolation", ("bicubic", "bilinear")),
            resize=_choice(given, "resize", tuple(_RESIZES)),
            fill_color=_integer(given, "fill_color", 0, 0, 255),
            max_image_bytes=_integer(given, "max_image_bytes", cls.max_image_bytes, 1, 2**31 - 1),
            max_image_pixels=_integer(given, "max_image_pixels", cls.max_image_pixels, 1, 2**31 - 1),
            reduced_decoding=_choice(given, "reduced_decoding", ("true", "false")) == "true",
            max_decode_milliseconds=_integer(
                given, "max_decode_milliseconds", cls.max_decode_milliseconds, 1, 2**31 - 1
            ),
            max_decode_bytes=_integer(given, "max_decode_bytes", cls.max_decode_bytes, 1, 2**40),
        )

    def fill(self, row: Row, data: bytes) -> None:
        """Decode one image file and write its pixels into `row`, uint8 [3,H,W], RGB.

        Raises InvalidImage and OutOfMemory. The row's content is undefined then.
        """
        if len(data) > self.max_image_bytes:
            raise InvalidImage(f"{len(data)} bytes, more than the limit of {self.max_image_bytes}")
        file = read(data)
        factor, extent = 1, None
        cost = file.cost
        if isinstance(file, Jpeg) and (factor := self.reduction(file)) > 1:
            cost = file.reduced_cost(factor)
            width, height = file.upright_size
            extent = width / factor, height / factor
        Limits(self.max_image_pixels, self.max_decode_milliseconds, self.max_decode_bytes).check(file, cost)
        pixels, is_cmyk = decode(file, factor)
        self._fit(row, pixels, extent or (pixels.shape[1], pixels.shape[0]), is_cmyk)

    def reduction(self, file: ImageFile) -> int:
        """Tell whether a very large JPEG is to be decoded at 1/8, 1/4 or 1/2."""
        if not self.reduced_decoding:
            return 1
        width, height = file.upright_size
        full_width, full_height = self._full_size(width, height)
        shrink = min(width / full_width, height / full_height)
        factors = [n for n in (8, 4, 2) if shrink / n >= _SHRINK_AFTER_REDUCTION]
        # The decoder rounds the size up. Turned to the left or the top, that part of a pixel would shift the image.
        is_upright = file.orientation == 1
        return next((n for n in factors if is_upright or width % n == height % n == 0), 1)

    def _fit(self, row: Row, pixels: Pixels, extent: tuple[float, float], is_cmyk: bool) -> None:
        """Resize the image, which is `extent` (width, height) of `pixels`, and write what shows of it."""
        full = self._full_size(*extent)
        left, columns, x = _centered(full[0], self.size[1])
        top, rows, y = _centered(full[1], self.size[0])
        pixels = self._resize.resample(
            pixels,
            Axis(pixels.shape[1], extent[0], full[0], left, columns),
            Axis(pixels.shape[0], extent[1], full[1], top, rows),
            vertical_first=_vertical_first(extent, full),
            cubic=self._is_cubic,
        )
        if is_cmyk:
            pixels = to_rgb(pixels)
        if pixels.shape != self.size:
            row[...] = self.fill_color
        self._resize.separate(pixels, row, y, x)

    @cached_property
    def _resize(self) -> ModuleType:
        return importlib.import_module(_RESIZES[self.resize])

    @property
    def _is_cubic(self) -> bool:
        # open_clip does not hand its interpolation to the resize of a target that is not square.
        return self.interpolation == "bicubic" or (self.resize_mode == "shortest" and self.size[0] != self.size[1])

    def _full_size(self, width: float, height: float) -> tuple[int, int]:
        """Give the (width, height) to which open_clip resizes an upright source, before it crops or pads."""
        rows, columns = self.size
        if self.resize_mode == "squash":
            return columns, rows
        if self.resize_mode == "longest":
            ratio = max(height / rows, width / columns)
            # open_clip fails where a side rounds to nothing; one pixel is the nearest that works.
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        if rows != columns:
            ratio = min(height / rows, width / columns)
            return round(width / ratio), round(height / ratio)
        if width <= height:
            return columns, int(columns * height / width)
        return int(rows * width / height), rows


def _centered(full: int, target: int) -> tuple[int, int, int]:
    """Crop or pad one axis: the first pixel that shows, how many do, and where in the row."""
    return max(0, round((full - target) / 2)), min(full, target), max(0, (target - full) // 2)


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


def _vertical_first(source: tuple[float, float], target: tuple[int, int]) -> bool:
    """Tell whether Pillow resizes the height before the width, which 13 and later do where it shrinks much more.

    The rule is not documented (Pillow's pull request 9549); it was found by comparing with single passes, and the
    parity tests hold it.
    """
    (width, height), (target_width, target_height) = source, target
    return height > target_height and height - target_height > 2 * (width - target_width)
