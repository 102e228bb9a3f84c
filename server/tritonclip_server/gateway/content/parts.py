"""Objects that stand for a text or an image, in all the shapes in which other APIs write them.

| shape | whose |
|---|---|
| `{"text": …}`, `{"image": …}`, `{"url": …}`, `{"bytes": base64}` | Jina's |
| `{"type": "text", "text": …}`, `{"type": "image_url", "image_url": {"url": …, "detail": …}}` | OpenAI's messages |
| `{"type": "input_text", "text": …}`, `{"type": "input_image", "image_url": …, "detail": …}` | OpenAI's responses |
| `{"type": "image_base64", "image_base64": …}` | Voyage's |
| `{"b64_json": …}` | OpenAI's images |
| `{"content": …}`: a text, or parts of these shapes, one of which is not empty | Cohere's, vLLM's, Voyage's |

A field that is null says nothing, and neither does an empty text beside an image. `detail` says at which resolution an
image may be read: it is read at the model's.
"""

from dataclasses import dataclass
from typing import Any

from tritonclip_server.gateway.errors import ApiError, in_words

_TEXT_TYPES = frozenset({"text", "input_text"})
_IMAGES = ("image", "image_url", "url", "bytes", "b64_json", "image_base64")
_IMAGE_TYPES = frozenset({"image", "image_url", "input_image", "image_base64"})
_FIELDS = frozenset({"text", "content", *_IMAGES})
_BESIDE = frozenset({"type", "detail"})
_NEVER_METADATA = frozenset({"text", "content", "image", "image_url"})
_EXPECTED = 'expected {"text": …}, {"image": …} or {"image_url": …}'


@dataclass(frozen=True)
class Part:
    """What an object holds, and which of its fields holds it."""

    value: Any
    field: str

    @property
    def is_image(self) -> bool:
        """Whether it is an image; else it is a text, or content with either."""
        return self.field in _IMAGES


def means_image(value: dict[str, Any]) -> bool:
    """Whether an object stands for an image, as far as a count goes."""
    if isinstance(content := value.get("content"), list):
        return any(isinstance(part, dict) and _has_image(part) for part in content)
    return _has_image(value)


def _has_image(value: dict[str, Any]) -> bool:
    return any(value.get(field) is not None for field in _IMAGES) and _is_empty(value.get("text") or "")


def part_of(value: dict[str, Any], param: str, *, is_document: bool = False) -> Part:
    """What an object holds; ApiError where that is not one text or one image.

    A document may have fields of its caller's own beside it: an id, a title, the address of its page.
    """
    if not is_document:
        _check_type(value.get("type"), param)
    given = {name: held for name, held in value.items() if name not in _BESIDE and held is not None}
    known = given if not is_document else {name: given[name] for name in given if name in _FIELDS}
    if is_document and not _NEVER_METADATA.isdisjoint(known):
        known = {name: held for name, held in known.items() if name in _NEVER_METADATA}
    if len(known) > 1 and _is_empty(known.get("text")):
        known = {name: held for name, held in known.items() if name != "text"}
    if "text" in known and len(known) > 1 and known.keys() <= _FIELDS:
        raise ApiError("invalid_value", f"a vector is of one text or one image: {_EXPECTED}", param=param)
    if len(known) != 1 or not known.keys() <= _FIELDS:
        raise ApiError("invalid_value", _EXPECTED, param=_null_field(value, param))
    ((field, held),) = known.items()
    kind = value.get("type")
    if not is_document and kind is not None and field != "content" and (kind in _TEXT_TYPES) is not (field == "text"):
        raise ApiError("invalid_value", f"of type {in_words(kind)}, but it holds {field}", param=f"{param}.type")
    return Part(held, field)


def only_part(content: Any, param: str) -> tuple[Any, str]:
    """The text or the part that a message's content holds, with its name; ApiError where that is not one."""
    if not isinstance(content, list):
        return content, param
    parts = [(part, f"{param}[{index}]") for index, part in enumerate(content)]
    filled = [(part, name) for part, name in parts if not _is_empty_part(part)] or parts[:1]
    if len(filled) != 1:
        message = f"expected one part, got {len(filled)}: a CLIP vector is of one text or one image"
        raise ApiError("invalid_value", message, param=param)
    return filled[0]


def _check_type(kind: Any, param: str) -> None:
    """ApiError where an object's `type` is that of neither a text nor an image."""
    if kind is not None and not (isinstance(kind, str) and kind in _TEXT_TYPES | _IMAGE_TYPES):
        message = f"expected a part of type text or image_url, got {in_words(kind)}"
        raise ApiError("invalid_value", message, param=f"{param}.type")


def _is_empty(text: Any) -> bool:
    return isinstance(text, str) and not text.strip()


def _is_empty_part(part: Any) -> bool:
    """Whether a part of a message is a text of nothing but blanks."""
    if isinstance(part, dict):
        return part.keys() <= {"type", "text"} and _is_empty(part.get("text"))
    return _is_empty(part)


def _null_field(value: dict[str, Any], param: str) -> str:
    """The name of an object's only field, where that is null."""
    fields = [name for name in value if name in _FIELDS]
    return f"{param}.{fields[0]}" if len(fields) == 1 and value[fields[0]] is None else param
