"""Images to bytes: uploaded ones as they are, data URLs and base64 decoded, all held against the limits.

Each image that cannot be had is an error of its own. What an image's bytes are, and whether they can be used, is for
the model server to say; only a data URL that says itself that it holds text is told so here.
"""

from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from tritonclip_server.gateway.content.base64_text import BadBase64, decode
from tritonclip_server.gateway.content.data_urls import DataUrl, data_url
from tritonclip_server.gateway.content.image_dimensions import pixels_of
from tritonclip_server.gateway.content.image_signatures import kind_of, looks_like_image
from tritonclip_server.gateway.content.items import ImageItem
from tritonclip_server.gateway.content.text_sniffing import is_image_in_base64
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.settings import Limits
from tritonclip_server.gateway.threads import LARGE_BYTES, in_thread_if

_NOT_SAID = 'the data URL does not say ";base64" before its comma'
PERCENT_ENCODED = 2**18  # characters of a data URL without base64: these take a microsecond each


class ImageLoader:
    """Loads the images of requests."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def load(self, items: Sequence[ImageItem]) -> list[bytes | ApiError]:
        """The bytes of each image, or the error of each that cannot be had."""
        size = sum(len(item.source) for item in items)
        return await in_thread_if(size >= LARGE_BYTES, lambda: self._load(items))

    def _load(self, items: Sequence[ImageItem]) -> list[bytes | ApiError]:
        loaded: list[bytes | ApiError] = []
        for item in items:
            try:
                loaded.append(self._bytes_of(item))
            except ApiError as error:
                loaded.append(error)
        return loaded

    def _bytes_of(self, item: ImageItem) -> bytes:
        source, param = item.source, item.param
        data = source if isinstance(source, bytes) else image_bytes(source, param)
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


def image_bytes(source: str, param: str) -> bytes:
    """The bytes of a data URL or of bare base64."""
    url = data_url(source)
    try:
        return decode(source) if url is None else _payload_of(url, param)
    except BadBase64 as error:
        raise ApiError("invalid_base64", str(error), param=param) from None


def _payload_of(url: DataUrl, param: str) -> bytes:
    payload = url.payload
    if payload is None:
        raise ApiError("invalid_base64", "a data URL must read data:image/…;base64,…", param=param)
    data = decode(payload) if url.is_base64 else _percent_decoded(payload, param)
    is_text = url.media_type.startswith("text/") or not (url.media_type or url.is_base64)
    if looks_like_image(data):
        return data
    if is_text:
        message = f'the data URL holds {kind_of(data)}, no image; a text is sent as it is, {{"text": …}}'
        raise ApiError("invalid_image", message, param=param)
    if not url.is_base64 and payload.isalnum():
        raise ApiError("invalid_base64", _NOT_SAID, param=param)
    return data


def _percent_decoded(payload: str, param: str) -> bytes:
    """What a data URL without base64 holds; an error where it is base64 that does not say so."""
    if is_image_in_base64(payload):
        raise ApiError("invalid_base64", _NOT_SAID, param=param)
    if len(payload) > PERCENT_ENCODED:
        message = f"a data URL of more than {PERCENT_ENCODED} characters must be base64: data:image/…;base64,…"
        raise ApiError("image_too_large", message, param=param)
    return unquote_to_bytes(payload.encode("utf-8", "replace"))
