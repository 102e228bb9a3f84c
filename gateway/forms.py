"""Multipart forms to fields and files, in memory: the body is there already, and no larger than it may be."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from gateway.errors import ApiError
from gateway.settings import Limits

_SLICE = 2**20  # bytes parsed before other requests have their turn


class _InMemory(MultiPartParser):
    """Starlette's parser, which by itself writes files to a disk, and takes a text that is not UTF-8 for Latin-1."""

    spool_max_size = 0  # no limit

    def on_part_end(self) -> None:
        """End a part; ApiError where it is a text in another encoding than the form's: UTF-8, where it says none."""
        part = self._current_part
        if part.file is None:
            try:
                part.data.decode(self._charset)
            except UnicodeDecodeError as error:
                message = (
                    f"not {self._charset.upper()} at byte {error.start + 1}, which is 0x{part.data[error.start]:02x}"
                )
                raise ApiError("invalid_text", message, param=part.field_name) from None
        super().on_part_end()


async def read_form(headers: Headers, body: bytes, limits: Limits) -> list[tuple[str, str | bytes]]:
    """Fields and files in their order, files as bytes; ApiError where it is no form, or has too many parts."""
    parser = _InMemory(
        headers,
        _slices(body),
        max_files=2 * limits.items,
        max_fields=4 * limits.items,
        max_part_size=limits.body_bytes,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ApiError("invalid_form", f"the form is not valid: {error.message}") from None
    except (ValueError, LookupError):
        raise ApiError("invalid_form", "the form is not valid: it cannot be read") from None
    try:
        return [(name, await _value(value)) for name, value in form.multi_items()]
    finally:
        await form.close()


async def _value(value: str | UploadFile) -> str | bytes:
    return await value.read() if isinstance(value, UploadFile) else value


async def _slices(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]
        await asyncio.sleep(0)
