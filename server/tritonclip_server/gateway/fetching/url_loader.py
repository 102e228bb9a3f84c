"""Images from URLs for requests: fetched before a request takes a place, and shared out among callers.

    items ─URLs among them─> so many at once, of a caller and of all ─> UrlFetcher ─> items with bytes in place of URLs

A slow site costs the request that named it, and nobody else: the places of items in flight are for those whose images
are here. What is fetched is held in memory until its request is answered: no more for a request than a body may bring,
and counted with the bytes of all bodies.
"""

import asyncio
from collections.abc import Sequence
from weakref import WeakValueDictionary

from tritonclip_server.gateway.content.items import BadItem, ImageItem, Item
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.fetching.url_fetcher import Grow, UrlFetcher, is_url
from tritonclip_server.gateway.gather import gather_or_cancel
from tritonclip_server.gateway.settings import UrlImages


def has_urls(items: Sequence[Item]) -> bool:
    """Whether there is an image among items that must be fetched."""
    return any(isinstance(item, ImageItem) and is_url(item.source) for item in items)


class UrlLoader:
    """Fetches the images that requests name. `fetcher` is None where images from URLs are not allowed."""

    def __init__(self, fetcher: UrlFetcher | None, options: UrlImages, request_bytes: int) -> None:
        self._fetcher = fetcher
        self._request_bytes = request_bytes
        self._at_once = asyncio.Semaphore(options.at_once)
        self._at_once_each = options.at_once_each
        self._of_callers: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def fetched(self, caller: str, items: Sequence[Item], hold: Grow) -> Sequence[Item]:
        """The items, those with a URL fetched or turned into their errors. `hold` is told of every byte that comes."""
        size = 0

        def grow(count: int) -> None:
            nonlocal size
            size += count
            if size > self._request_bytes:
                message = f"the images of this request's URLs are together larger than {self._request_bytes} bytes"
                raise ApiError("image_too_large", message)
            hold(count)

        own = self._of_callers.setdefault(caller, asyncio.Semaphore(self._at_once_each))
        return await gather_or_cancel(*(self._fetch(item, own, grow) for item in items))

    async def _fetch(self, item: Item, own: asyncio.Semaphore, grow: Grow) -> Item:
        if not (isinstance(item, ImageItem) and isinstance(item.source, str) and is_url(item.source)):
            return item
        try:
            if self._fetcher is None:
                raise ApiError("url_images_disabled", "this gateway takes no images from URLs: send the image")
            async with own, self._at_once:
                return ImageItem(await self._fetcher.fetch(item.source, item.param, grow), item.param)
        except ApiError as error:
            return BadItem(ApiError(error.code, error.reason, param=item.param))
