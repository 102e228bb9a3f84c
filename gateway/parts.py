"""The content of a message or an input, in parts as other APIs have it, to the one item that a CLIP vector is of.

"a text"   [{"type": "text", "text": …}]   [{"type": "image_url", "image_url": …}]   [{"type": "image_base64", …}]
"""

from typing import Any

from gateway.errors import ApiError
from gateway.items import Item, image_item, mixed_item
from gateway.settings import Limits

VOYAGES_IMAGE = "image_base64"  # a part's type, and its field


def only_part(content: Any, param: str, limits: Limits) -> Item:
    """The item of a content with one part; ApiError for several, which together are no vector of a CLIP model.

    A part of empty text beside another one is nothing: some programs always send one.
    """
    if not isinstance(content, list):
        return mixed_item(content, param, limits)
    parts = [index for index, part in enumerate(content) if not _is_empty_text(part)] or list(range(len(content)))[:1]
    if len(parts) != 1:
        message = f"{len(parts)} parts, expected one: a CLIP vector is of one text or one image"
        raise ApiError("invalid_value", message, param=param)
    part, param = content[parts[0]], f"{param}[{parts[0]}]"
    if isinstance(part, dict) and part.get("type") == VOYAGES_IMAGE:
        return image_item(part.get(VOYAGES_IMAGE), f"{param}.{VOYAGES_IMAGE}")
    return mixed_item(part, param, limits)


def content_items(inputs: Any, field: str, limits: Limits) -> list[Item]:
    """The items of Cohere's and Voyage's `inputs`: a list of objects, each with a content."""
    if not isinstance(inputs, list) or not inputs:
        raise ApiError("invalid_value", 'expected a list of {"content": [part]}', param=field)
    items = []
    for index, given in enumerate(inputs):
        if not isinstance(given, dict) or given.keys() != {"content"}:
            raise ApiError("invalid_value", 'expected {"content": [part]}', param=f"{field}[{index}]")
        items.append(only_part(given["content"], f"{field}[{index}].content", limits))
    return items


def _is_empty_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and part.get("text") == ""
