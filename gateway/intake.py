"""The one way in for texts and images: from a request's fields to items, and from items to bytes.

    field values ──text_item, image_item, mixed_item──> items, each with the name it has in errors
    image items ──Intake.load──> bytes: uploaded, decoded from base64, or fetched from a URL

Making items finds mistakes of the request, which is then refused as a whole. Loading finds images that cannot be had,
each of which is an error of its own.
"""

import asyncio
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pybase64

from gateway.errors import ApiError
from gateway.picture_sizes import pixels_of
from gateway.settings import Limits
from gateway.together import together
from gateway.urls import Fetcher

LOADED_IN_THREAD = 2**20  # bytes: below it, decoding takes less time than handing it to a thread
SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class TextItem:
    """A text, and the name it has in errors."""

    text: str
    param: str


@dataclass(frozen=True)
class ImageItem:
    """An image: the bytes of an uploaded file, a URL, a data URL or base64; and the name it has in errors."""

    source: bytes | str
    param: str


Item = TextItem | ImageItem


def as_list(value: Any) -> list[tuple[Any, str]]:
    """One value or a list of them, each with its index as errors show it: "" for one alone, "[2]" in a list."""
    if isinstance(value, list):
        return [(item, f"[{index}]") for index, item in enumerate(value)]
    return [(value, "")]


def text_items(value: Any, field: str, limits: Limits) -> list[TextItem]:
    """The texts of a field that has one or a list of them."""
    return [text_item(item, field + index, limits) for item, index in as_list(_some(value, field))]


def image_items(value: Any, field: str) -> list[ImageItem]:
    """The images of a field that has one or a list of them."""
    return [image_item(item, field + index) for item, index in as_list(_some(value, field))]


def mixed_items(value: Any, field: str, limits: Limits, modality: str | None = None) -> list[Item]:
    """Texts and images of a field that may have both."""
    return [mixed_item(item, field + index, limits, modality) for item, index in as_list(_some(value, field))]


def text_item(value: Any, param: str, limits: Limits) -> TextItem:
    """A text, or ApiError where it is none, or too long."""
    if not isinstance(value, str):
        raise _wrong_type("a string", value, param)
    if len(value) > limits.text_characters:
        message = f"{len(value)} characters, more than the limit of {limits.text_characters}"
        raise ApiError("text_too_long", message, param=param)
    return TextItem(value, param)


def image_item(value: Any, param: str) -> ImageItem:
    """An image, or ApiError where it is of a wrong type."""
    if isinstance(value, dict) and value.keys() == {"url"}:  # as OpenAI's image_url parts have it
        value, param = value["url"], f"{param}.url"
    if not isinstance(value, str | bytes):
        raise _wrong_type("an image as URL, data URL or base64", value, param)
    return ImageItem(value, param)


def mixed_item(value: Any, param: str, limits: Limits, modality: str | None = None) -> Item:
    """A text or an image: a bare string by what it looks like (or by the modality), an object by its field."""
    if isinstance(value, bytes):
        return ImageItem(value, param)
    if isinstance(value, str):
        is_image = value.startswith("data:image/") if modality is None else modality == "image"
        return image_item(value, param) if is_image else text_item(value, param, limits)
    if isinstance(value, dict):
        return _from_object(value, param, limits)
    if isinstance(value, int | float | list) and not isinstance(value, bool):
        raise ApiError("token_arrays_unsupported", "token arrays are not supported: send the text itself", param=param)
    raise _wrong_type("a string or an object", value, param)


def _from_object(value: dict[str, Any], param: str, limits: Limits) -> Item:
    """`{"text": …}`, `{"image": …}`, or a part of OpenAI's messages: `{"type": "image_url", "image_url": …}`."""
    fields = [name for name in value if name != "type"]
    kind = value.get("type", fields[0] if fields else None)
    if fields == ["text"] and kind == "text":
        return text_item(value["text"], f"{param}.text", limits)
    if fields in (["image"], ["image_url"]) and kind == fields[0]:
        return image_item(value[fields[0]], f"{param}.{fields[0]}")
    raise ApiError("invalid_value", 'expected {"text": …}, {"image": …} or {"image_url": …}', param=param)


class Intake:
    """Loads images. `fetcher` is None where images from URLs are not allowed."""

    def __init__(self, limits: Limits, fetcher: Fetcher | None) -> None:
        self._limits = limits
        self._fetcher = fetcher

    async def load(self, items: Sequence[ImageItem]) -> list[bytes | ApiError]:
        """The bytes of each image, or the error of each that cannot be had."""
        return await together(*(self._load(item) for item in items))

    async def _load(self, item: ImageItem) -> bytes | ApiError:
        try:
            source: bytes | str = item.source
            if isinstance(source, str) and "://" in source[:16]:
                source = await self._fetch(source, item.param)
            if len(source) < LOADED_IN_THREAD:
                return self._check(source, item.param)
            return await asyncio.to_thread(self._check, source, item.param)
        except ApiError as error:
            return error

    async def _fetch(self, url: str, param: str) -> bytes:
        if self._fetcher is None:
            raise ApiError("url_images_disabled", "this gateway takes no images from URLs: send the image", param=param)
        return await self._fetcher.fetch(url, param)

    def _check(self, source: bytes | str, param: str) -> bytes:
        """Decode an image that came as text, and hold it against the limits."""
        data = source if isinstance(source, bytes) else _decode(source, param)
        if not data:
            raise ApiError("invalid_image", "empty: no bytes", param=param)
        if len(data) > self._limits.image_bytes:
            message = f"{len(data)} bytes, more than the limit of {self._limits.image_bytes}"
            raise ApiError("image_too_large", message, param=param)
        pixels = pixels_of(data)
        if pixels is not None and pixels > self._limits.image_pixels:
            message = f"more pixels than the limit of {self._limits.image_pixels}"
            raise ApiError("image_has_too_many_pixels", message, param=param)
        return data


def _decode(source: str, param: str) -> bytes:
    """The bytes of a data URL or of bare base64."""
    if source.startswith("data:"):
        head, comma, source = source.partition(",")
        if not comma or not head.endswith(";base64"):
            raise ApiError("invalid_base64", "a data URL must read data:image/…;base64,…", param=param)
        if not head.startswith("data:image/"):
            raise ApiError("invalid_image", "the data URL is not that of an image", param=param)
    try:
        return pybase64.b64decode(_one_line(source), validate=True)
    except (binascii.Error, ValueError):
        shown = source[:SHOWN_CHARACTERS]
        raise ApiError("invalid_base64", f"neither a URL nor valid base64: {shown!r}", param=param) from None


def _one_line(text: str) -> str:
    """Without the line breaks that `base64` and MIME put in."""
    return text if "\n" not in text else text.replace("\n", "").replace("\r", "")


def _some(value: Any, field: str) -> Any:
    if value is None or value == []:
        raise ApiError("missing_field", f"{field} must not be empty", param=field)
    return value


def _wrong_type(wanted: str, value: Any, param: str) -> ApiError:
    names = {dict: "an object", list: "an array", bool: "a boolean", int: "a number", float: "a number"}
    given = names.get(type(value), "a file" if isinstance(value, bytes) else "null")
    return ApiError("invalid_value", f"expected {wanted}, got {given}", param=param)
