"""Items as callers have them, to the bytes that the server takes.

Paths, bytes and binary files are sent as they are: whether they hold an image is the server's to say. Pixels (PIL
images, NumPy arrays) are written as PNG, which loses nothing.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonclip import _defaults
from tritonclip._core.png import UnusableImage, png_of_array, png_of_image
from tritonclip._core.stream import Encoded, Source
from tritonclip._errors import InputError

ImageInput = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | npt.NDArray[np.uint8]
"""One image: a path, encoded bytes, a binary file, a PIL image, or a uint8 array [H,W], [H,W,3], [H,W,4] (RGB)."""


@dataclass(frozen=True)
class Modality:
    """What differs between images and texts: words, tensor names, and how an item becomes bytes."""

    noun: str
    model: str
    features: str
    to_bytes: Callable[[Any], bytes]
    single: Callable[[Any], bool]
    per_request: int  # items in one request, where the client's `batch_size` does not say

    def source(self, items: Any) -> Source:
        """A source of the items; one item alone is a list of one."""
        if self.single(items):
            return Source([items])
        try:
            return Source(items)  # also of what has no __iter__ and can be indexed, as data sets are
        except TypeError as exc:
            raise InputError(f"expected {self.noun}s, got {type(items).__name__}") from exc

    def encode(self, item: Any, index: int) -> Encoded:
        """An item's bytes, or the error that names it and says why there are none."""
        if isinstance(item, Encoded):
            return item
        try:
            return Encoded(self.to_bytes(item))
        except _Unusable as exc:
            error = InputError(str(exc), noun=self.noun, index=index)
            error.__cause__ = exc.__cause__
            return Encoded(error=error)


class _Unusable(Exception):
    """Why an item has no bytes."""


def image_bytes(image: Any) -> bytes:
    """One image's encoded bytes."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    try:
        if isinstance(image, str | os.PathLike):
            return Path(image).read_bytes()
        if hasattr(image, "read"):
            return _file_bytes(image)
    except (OSError, ValueError) as exc:  # ValueError: a NUL in a path, a closed file
        raise _Unusable(_why(exc)) from exc
    try:
        if isinstance(image, np.ndarray):
            return png_of_array(image)
        if isinstance(image, Image.Image):
            return png_of_image(image)
    except UnusableImage as exc:
        raise _Unusable(str(exc)) from exc.__cause__
    raise _Unusable(f"expected a path, bytes, a binary file, a PIL image or a uint8 array, got {type(image).__name__}")


def text_bytes(text: Any) -> bytes:
    """One text's UTF-8."""
    if not isinstance(text, str):
        raise _Unusable(f"expected str, got {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise _Unusable(f"not valid Unicode: {exc.reason}") from exc


def _why(exc: Exception) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.strerror}: {exc.filename}" if exc.filename else exc.strerror
    return str(exc) or type(exc).__name__


def _file_bytes(file: Any) -> bytes:
    data = file.read()
    if not isinstance(data, bytes):
        raise _Unusable("the file is open as text; open it in binary mode")
    return data


def _single_image(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim < 4
    return isinstance(value, str | os.PathLike | bytes | bytearray | memoryview | Image.Image) or hasattr(value, "read")


IMAGE = Modality("image", "embed_image", "image_features", image_bytes, _single_image, _defaults.IMAGES_PER_REQUEST)
TEXT = Modality(
    "text",
    "embed_text",
    "text_features",
    text_bytes,
    lambda value: isinstance(value, str | bytes),
    _defaults.TEXTS_PER_REQUEST,
)
