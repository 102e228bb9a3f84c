"""The one way in for texts and images: from the values of a request's fields to items.

    field values ──text_item, image_item, mixed_item──> items, each with the name it has in errors

What is of a wrong type is a mistake of the whole request. What is of the right type and cannot be used (a text that is
too long, or a picture's base64 where a text is) is a mistake of that item alone: a BadItem, whose error is told of it.
Here is decided, for all endpoints, whether a bare string is a text or an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.data_urls import data_url
from gateway.errors import ApiError
from gateway.lookalikes import holds_json_items, image_lookalike, is_url
from gateway.settings import Limits

_IMAGE_FIELDS = frozenset({"image", "image_url"})


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


@dataclass(frozen=True)
class BadItem:
    """A text or an image that cannot be used, and why."""

    error: ApiError


Item = TextItem | ImageItem | BadItem


def param_of(item: Item) -> str:
    """The name that an item has in errors."""
    return (item.error.param or "") if isinstance(item, BadItem) else item.param


def errors_of(items: Sequence[Item]) -> dict[int, ApiError]:
    """The errors of the items that are bad, by position."""
    return {position: item.error for position, item in enumerate(items) if isinstance(item, BadItem)}


def text_items(value: Any, field: str, limits: Limits) -> list[TextItem]:
    """The texts of a field that takes nothing else, one or a list of them; ApiError where one of them is bad.

    A URL may be a text there; what has an image inside is none.
    """
    items = as_list(value, field, limits)
    check_counts(0, len(items), field, limits)
    for item, param in items:
        if isinstance(item, str) and (looks := image_lookalike(item)):
            raise ApiError("not_a_text", f"this is {looks}, not words: send it as an image", param=param)
    return good([text_item(item, param, limits) for item, param in items])


def image_items(value: Any, field: str, limits: Limits) -> list[ImageItem]:
    """The images of a field that has one or a list of them."""
    items = as_list(value, field, limits)
    check_counts(len(items), 0, field, limits)
    return [image_item(item, param) for item, param in items]


def mixed_items(value: Any, field: str, limits: Limits, modality: str | None = None) -> list[Item]:
    """Texts and images of a field that may have both."""
    if modality == "text" and isinstance(value, str):  # whatever it looks like, a list in JSON too
        return [text_item(value, field, limits, literal=True)]
    items = as_list(value, field, limits)
    images = sum(_means_image(item, modality) for item, _ in items)
    check_counts(images, len(items) - images, field, limits)
    return [mixed_item(item, param, limits, modality) for item, param in items]


def check_counts(images: int, texts: int, field: str, limits: Limits) -> None:
    """ApiError where a request has more images, or more texts, than it may have: before any of them is looked at."""
    for count, limit, noun in ((images, limits.images, "images"), (texts, limits.texts, "texts")):
        if count > limit:
            message = (
                f"{count} {noun}, more than the limit of {limit}: send fewer at a time (chunk_size, batch_size), "
                f"or start the gateway with --max-{noun}"
            )
            raise ApiError("too_many_items", message, param=field)


def as_list(value: Any, field: str, limits: Limits) -> list[tuple[Any, str]]:
    """One value or a list of them, each with its name in errors: `texts` for one alone, `texts[2]` in a list."""
    if value is None or value == []:
        raise ApiError("missing_field", f"{field} must not be empty", param=field)
    if not isinstance(value, list):
        refuse_json(value, field, limits, "send what it holds, or the string as the only one of a list")
        return [(value, field)]
    return [(item, f"{field}[{index}]") for index, item in enumerate(value)]


def refuse_json(value: Any, field: str, limits: Limits, remedy: str) -> None:
    """ApiError for a string that holds items as JSON: its characters as a text would mean nothing."""
    if isinstance(value, str) and holds_json_items(value, limits.text_characters):
        raise ApiError("invalid_value", f"{field}: one string that holds JSON: {remedy}", param=field)


def good(items: Sequence[TextItem | BadItem]) -> list[TextItem]:
    """Texts that are all needed: the error of the first bad one is raised."""
    for item in items:
        if isinstance(item, BadItem):
            raise item.error
    return [item for item in items if isinstance(item, TextItem)]


def text_item(value: Any, param: str, limits: Limits, *, literal: bool = False) -> TextItem | BadItem:
    """What has been said to be a text; where `literal`, in so many words, so that it may look like anything."""
    if not isinstance(value, str):
        raise _wrong_type("a string", value, param)
    if not literal and data_url(value):
        message = "a data URL is an image, never a text: send it as one"
        return BadItem(ApiError("not_a_text", message, param=param))
    if len(value) > limits.text_characters:
        message = f"{len(value)} characters, more than the limit of {limits.text_characters}"
        return BadItem(ApiError("text_too_long", message, param=param))
    try:
        value.encode()
    except UnicodeEncodeError as error:
        message = f"half of a surrogate pair at character {error.start + 1}: it is no Unicode text"
        return BadItem(ApiError("invalid_text", message, param=param))
    return TextItem(value, param)


def image_item(value: Any, param: str) -> ImageItem:
    """What has been said to be an image, or ApiError where it is of a wrong type."""
    if isinstance(value, dict) and value.keys() == {"url"}:  # as OpenAI's image_url parts have it
        value, param = value["url"], f"{param}.url"
    if not isinstance(value, str | bytes):
        raise _wrong_type("an image as URL, data URL or base64", value, param)
    return ImageItem(value, param)


def mixed_item(value: Any, param: str, limits: Limits, modality: str | None = None) -> Item:
    """A text or an image: an object by its field, a bare string by the modality or, where none is given, by itself."""
    if isinstance(value, bytes):
        return ImageItem(value, param)
    if isinstance(value, str):
        return _bare_string(value, param, limits, modality)
    if isinstance(value, dict):
        return _from_object(value, param, limits, modality)
    if isinstance(value, int | float | list) and not isinstance(value, bool):
        message = "token arrays are not supported: send the text itself (LangChain: check_embedding_ctx_length=False)"
        raise ApiError("token_arrays_unsupported", message, param=param)
    raise _wrong_type("a string or an object", value, param)


def _means_image(value: Any, modality: str | None) -> bool:
    """Whether a value stands for an image, as far as its count goes; what is neither counts as a text."""
    if isinstance(value, str):
        return modality == "image" or (modality is None and data_url(value) is not None)
    return isinstance(value, bytes) or (isinstance(value, dict) and not _IMAGE_FIELDS.isdisjoint(value))


def _bare_string(value: str, param: str, limits: Limits, modality: str | None) -> Item:
    """A data URL is an image, whatever its type; what looks like another way to send one is neither, and an error."""
    if modality is not None:
        return image_item(value, param) if modality == "image" else text_item(value, param, limits, literal=True)
    if data_url(value):
        return ImageItem(value, param)
    if looks := "a URL" if is_url(value) else image_lookalike(value):
        message = (
            f'this is {looks}, not words: an image is sent as {{"image": …}} or with modality "image"; '
            'to embed the characters themselves, say {"text": …} or modality "text"'
        )
        return BadItem(ApiError("not_a_text", message, param=param))
    return text_item(value, param, limits)


def _from_object(value: dict[str, Any], param: str, limits: Limits, modality: str | None) -> Item:
    """`{"text": …}`, `{"image": …}`, or a part of OpenAI's messages: `{"type": "image_url", "image_url": …}`."""
    fields = [name for name in value if name != "type"]
    kind = value.get("type", fields[0] if fields else None)
    if fields == ["text"] and kind == "text":
        return text_item(value["text"], f"{param}.text", limits, literal=modality == "text")
    if fields in (["image"], ["image_url"]) and kind == fields[0]:
        return image_item(value[fields[0]], f"{param}.{fields[0]}")
    raise ApiError("invalid_value", 'expected {"text": …}, {"image": …} or {"image_url": …}', param=param)


def _wrong_type(wanted: str, value: Any, param: str) -> ApiError:
    names = {dict: "an object", list: "an array", bool: "a boolean", int: "a number", float: "a number"}
    given = names.get(type(value), "a file" if isinstance(value, bytes) else "null")
    return ApiError("invalid_value", f"expected {wanted}, got {given}", param=param)
