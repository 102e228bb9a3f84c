"""Multipart forms to fields and files, in memory: the body is there already, and no larger than it may be."""

import codecs
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from tritonclip_server.gateway.content.image_signatures import looks_like_image
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.parsing.json_body import MAX_PARTS, parts_of, too_many_values
from tritonclip_server.gateway.settings import Limits

T = TypeVar("T")

_SLICE = 2**15  # bytes that the parser is given at a time
_STARLETTES_WORD = "Invalid multipart data."  # for all that its parser may say
_NOT_PARTED = "its parts are not what Content-Type's boundary parts, or have headers that cannot be read"


class _InMemory(MultiPartParser):
    """Starlette's parser, which by itself writes files to a disk, and takes a text that is not UTF-8 for Latin-1."""

    spool_max_size = 0  # no limit
    ended = False  # whether the last boundary was seen, behind which nothing comes

    def on_part_end(self) -> None:
        """End a part; ApiError where it is a text in another encoding than the form's: UTF-8, where it says none."""
        part = self._current_part
        if part.file is None:
            try:
                part.data.decode(self._charset)
            except UnicodeDecodeError as error:
                if looks_like_image(bytes(part.data)):
                    message = "the bytes of an image in a field for text: an uploaded file has a filename"
                    raise ApiError("invalid_image", message, param=part.field_name) from None
                message = (
                    f"not {self._charset.upper()} at byte {error.start + 1}, which is 0x{part.data[error.start]:02x}"
                )
                raise ApiError("invalid_text", message, param=part.field_name) from None
        super().on_part_end()

    def on_end(self) -> None:
        """End the form: of one that is cut off, the last field would be missing in silence."""
        self.ended = True
        super().on_end()


def read_form(headers: Headers, body: bytes, limits: Limits) -> list[tuple[str, str | bytes]]:
    """Fields and files in their order, files as bytes; ApiError where it is no form, or has too many parts.

    A large form takes a while: this may run in a thread.
    """
    _check_charset(headers)
    fields = _result(_parsed(headers, body, limits))
    _check_arrays(fields)
    return fields


async def _parsed(headers: Headers, body: bytes, limits: Limits) -> list[tuple[str, str | bytes]]:
    parser = _InMemory(
        headers,
        _slices(body),
        max_files=2 * limits.images,
        max_fields=2 * limits.texts,
        max_part_size=limits.body_bytes,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        message = _NOT_PARTED if error.message == _STARLETTES_WORD else error.message
        raise ApiError("invalid_form", f"the form is not valid: {message}") from None
    except (ValueError, LookupError):
        raise ApiError("invalid_form", "the form is not valid: it cannot be read") from None
    if not parser.ended:
        await form.close()
        raise ApiError("invalid_form", "the form is empty, or cut off: it does not end with its last boundary")
    try:
        return [(name, await _value(value)) for name, value in form.multi_items()]
    finally:
        await form.close()


def _check_arrays(fields: list[tuple[str, str | bytes]]) -> None:
    """ApiError where the JSON arrays in all fields have more values than a body of JSON may have."""
    left = MAX_PARTS
    for name, value in fields:
        if isinstance(value, str) and value.lstrip().startswith("["):
            left -= parts_of(value.encode("utf-8", "surrogatepass"), left)
            if left < 0:
                raise too_many_values("the arrays of the form have", name)


def _check_charset(headers: Headers) -> None:
    """ApiError for an encoding that nobody knows: Starlette would take it for Latin-1, and other words for the text."""
    charset = parse_options_header(headers.get("content-type", ""))[1].get(b"charset", b"utf-8").decode("latin-1")
    try:
        codecs.lookup(charset)
    except (LookupError, ValueError):
        raise ApiError("invalid_form", f"there is no charset {charset[:40]!a}: send UTF-8") from None


async def _value(value: str | UploadFile) -> str | bytes:
    return await value.read() if isinstance(value, UploadFile) else value


async def _slices(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]


def _result(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that never waits: Starlette's parser has files in memory to write to, and no more."""
    try:
        work.send(None)
    except StopIteration as ended:
        value: T = ended.value
        return value
    work.close()
    raise RuntimeError("a form in memory waited for something")
