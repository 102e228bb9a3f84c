"""The one way in for texts and images: from the values of a request's fields to items.

    field values ──text_item, image_item, mixed_item──> items, each with the name it has in errors
    objects ──parts──> what they hold        token ids ──token_ids──> texts

What is of a wrong type is a mistake of the whole request. What is of the right type and cannot be used (a text that is
too long, or an image's base64 where a text is) is a mistake of that item alone: a BadItem, whose error is told of it.
Here is decided, for all endpoints, whether a bare string is a text or an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tritonclip_server.gateway.content.data_urls import data_url
from tritonclip_server.gateway.content.parts import means_image, only_part, part_of
from tritonclip_server.gateway.content.text_sniffing import disguised_image, holds_json_items, is_url
from tritonclip_server.gateway.content.token_ids import is_token_array, text_of
from tritonclip_server.gateway.errors import ApiError, in_words
from tritonclip_server.gateway.settings import Limits


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
        if isinstance(item, str) and (looks := disguised_image(item)):
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
    return [mixed_item(item, param, limits, modality) for item, param in _counted(value, field, limits, modality)]


def document_items(value: Any, field: str, limits: Limits) -> list[Item]:
    """Texts and images, of which those that are objects may have fields of the caller's own beside them."""
    return [_document(item, param, limits) for item, param in _counted(value, field, limits, None)]


def _document(value: Any, param: str, limits: Limits) -> Item:
    item = mixed_item(value, param, limits, is_document=True)
    try:
        orjson.dumps(value if isinstance(value, dict) else None)  # it may have to come back
    except orjson.JSONEncodeError:
        message = "has what JSON cannot hold: half of a surrogate pair, a number of too many digits, or too many levels"
        return item if isinstance(item, BadItem) else BadItem(ApiError("invalid_value", message, param=param))
    return item


def input_items(value: Any, field: str, limits: Limits, modality: str | None = None) -> list[Item]:
    """Texts and images, or texts that are all written as token ids: one list of ids is one text."""
    if is_token_array(value) and not any(isinstance(item, str | list | dict) for item in value):
        return [_from_tokens(value, field, limits, modality)]
    if not (isinstance(value, list) and value and isinstance(value[0], list)):
        return mixed_items(value, field, limits, modality)
    items = as_list(value, field, limits)
    check_counts(0, len(items), field, limits)
    for item, param in items:
        if not isinstance(item, list):
            message = f"{in_words(item)} is no list of token ids: all texts come as ids, or all as they are"
            raise ApiError("invalid_value", message, param=param)
    return [_from_tokens(item, param, limits, modality) for item, param in items]


def _from_tokens(ids: list[Any], param: str, limits: Limits, modality: str | None) -> Item:
    """What the bare string is that token ids were made of."""
    try:
        return _bare_string(text_of(ids, param), param, limits, modality)
    except ApiError as error:
        if error.code == "invalid_tokens":
            return BadItem(error)
        raise


def _counted(value: Any, field: str, limits: Limits, modality: str | None) -> list[tuple[Any, str]]:
    """The values of a field that may have texts and images, no more of each than there may be."""
    items = as_list(value, field, limits)
    images = sum(_means_image(item, modality) for item, _ in items)
    check_counts(images, len(items) - images, field, limits)
    return items


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
        raise ApiError("missing_field", "must not be empty", param=field)
    if not isinstance(value, list):
        refuse_json(value, field, limits, "send what it holds, or the string as the only one of a list")
        return [(value, field)]
    return [(item, f"{field}[{index}]") for index, item in enumerate(value)]


def refuse_json(value: Any, field: str, limits: Limits, remedy: str) -> None:
    """ApiError for a string that holds items as JSON: its characters as a text would mean nothing."""
    if isinstance(value, str) and holds_json_items(value, limits.text_characters):
        raise ApiError("invalid_value", f"one string that holds JSON: {remedy}", param=field)


def good(items: Sequence[TextItem | BadItem]) -> list[TextItem]:
    """Texts that are all needed: the error of the first bad one is raised."""
    for item in items:
        if isinstance(item, BadItem):
            raise item.error
    return [item for item in items if isinstance(item, TextItem)]


def text_item(value: Any, param: str, limits: Limits, *, literal: bool = False) -> TextItem | BadItem:
    """What has been said to be a text; where `literal`, in so many words, so that it may look like anything."""
    if not isinstance(value, str):
        raise ApiError("invalid_value", f"{in_words(value)} is no text: expected a string", param=param)
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


def image_item(value: Any, param: str, *, levels: int = 2) -> ImageItem:
    """What has been said to be an image, or ApiError where it is of a wrong type.

    It may be in so many objects, one in the other: {"image_url": {"url": …}} is as deep as any API goes.
    """
    for _ in range(levels):
        if isinstance(value, dict):
            shape = part_of(value, param)
            if not shape.is_image:
                raise ApiError("invalid_value", "expected an image", param=f"{param}.{shape.field}")
            value, param = shape.value, f"{param}.{shape.field}"
    if not isinstance(value, str | bytes):
        message = f"{in_words(value)} is no image: expected a URL, a data URL or base64"
        raise ApiError("invalid_value", message, param=param)
    return ImageItem(value, param)


def mixed_item(
    value: Any, param: str, limits: Limits, modality: str | None = None, *, is_document: bool = False
) -> Item:
    """A text or an image: an object by its field, a bare string by the modality or, where none is given, by itself."""
    if isinstance(value, bytes):
        return ImageItem(value, param)
    if isinstance(value, str):
        return _bare_string(value, param, limits, modality)
    if isinstance(value, dict):
        return _from_object(value, param, limits, modality, is_document=is_document)
    message = f'{in_words(value)} is no text, and no image: expected a string, {{"text": …}} or {{"image": …}}'
    raise ApiError("invalid_value", message, param=param)


def _means_image(value: Any, modality: str | None) -> bool:
    """Whether a value stands for an image, as far as its count goes; what is neither counts as a text."""
    if isinstance(value, str):
        return modality == "image" or (modality is None and data_url(value) is not None)
    return isinstance(value, bytes) or (isinstance(value, dict) and means_image(value))


def _bare_string(value: str, param: str, limits: Limits, modality: str | None) -> Item:
    """A data URL is an image, whatever its type; what looks like another way to send one is neither, and an error."""
    if modality is not None:
        return image_item(value, param) if modality == "image" else text_item(value, param, limits, literal=True)
    if data_url(value):
        return ImageItem(value, param)
    if looks := "a URL" if is_url(value) else disguised_image(value):
        message = (
            f'this is {looks}, not words: an image is sent as {{"image": …}} or with modality "image"; '
            'to embed the characters themselves, say {"text": …} or modality "text"'
        )
        return BadItem(ApiError("not_a_text", message, param=param))
    return text_item(value, param, limits)


def _from_object(value: dict[str, Any], param: str, limits: Limits, modality: str | None, *, is_document: bool) -> Item:
    """The text or the image that an object holds."""
    shape = part_of(value, param, is_document=is_document)
    param = f"{param}.{shape.field}"
    if shape.is_image:
        return image_item(shape.value, param, levels=1)
    if shape.field == "text":
        return text_item(shape.value, param, limits, literal=modality == "text")
    part, param = only_part(shape.value, param)
    if isinstance(part, dict) and "content" in part:
        raise ApiError("invalid_value", "content within content: a vector is of one text or one image", param=param)
    return mixed_item(part, param, limits, modality)
