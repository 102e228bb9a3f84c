"""The client for asyncio: the same methods as ``Client``, the same operations behind them."""

import asyncio
from collections.abc import AsyncIterable, Iterable
from copy import copy
from types import TracebackType
from typing import Self

from tritonclip import _classify, _compare, _defaults, _embed, _status, _tokens
from tritonclip._client import OnError
from tritonclip._drivers import AsyncDriver
from tritonclip._encoding import IMAGE, TEXT, ImageInput
from tritonclip._results import Classifications, Comparison, Embeddings, Manifest, Status
from tritonclip._session import Session
from tritonclip._settings import resolve_admin_key, resolve_url
from tritonclip._transports import AsyncTransport, open_async_transport


class AsyncClient:
    """Embeds images and texts, and compares them, on a Triton server, without blocking the event loop.

    Arguments, methods and errors are those of ``Client``. Items may also come from an asynchronous iterable; a plain
    one is read on the event loop. Files are read and pixels compressed in threads.

    One client may be shared by any number of tasks of one event loop. Use it in an ``async with`` block, or call
    ``aclose``.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float = _defaults.TIMEOUT,
        concurrency: int = _defaults.CONCURRENCY,
        batch_size: int = _defaults.BATCH_SIZE,
        admin_key: str | None = None,
        transport: AsyncTransport | None = None,
    ) -> None:
        self._url = resolve_url(url)
        self._session = Session(timeout, concurrency, batch_size)
        self._transport = transport or open_async_transport(self._url, resolve_admin_key(admin_key))
        self._driver = AsyncDriver(self._transport)
        self._manifest_lock = asyncio.Lock()

    async def embed_images(
        self,
        images: ImageInput | Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        on_error: OnError = "raise",
        progress: bool = False,
    ) -> Embeddings:
        """Embed images: features [N, D] float32, each row of length 1, in the order given.

        With ``on_error="raise"`` the first image that cannot be used raises InputError with its ``index``, and what is
        still running is given up. With ``"return"`` every other image gets its row, failed rows are NaN, and
        ``Embeddings.errors`` has the reasons. No images give features [0, D]. ``progress`` shows a bar.
        """
        await self.manifest()
        return await self._driver.run(_embed.embed(self._session, IMAGE, IMAGE.source(images), on_error, progress))

    async def embed_texts(
        self, texts: str | Iterable[str] | AsyncIterable[str], *, on_error: OnError = "raise", progress: bool = False
    ) -> Embeddings:
        """Embed texts: features [N, D] float32, like ``embed_images``."""
        await self.manifest()
        return await self._driver.run(_embed.embed(self._session, TEXT, TEXT.source(texts), on_error, progress))

    async def compare(
        self,
        images: ImageInput | Iterable[ImageInput] | AsyncIterable[ImageInput],
        texts: str | Iterable[str] | AsyncIterable[str],
        *,
        on_error: OnError = "raise",
        progress: bool = False,
    ) -> Comparison:
        """Compare each image with each text: cosine, logits, probabilities, each [B, N] float32.

        Any numbers of both will do. ``on_error`` is about images, as in ``embed_images``; a text that cannot be used
        always raises, for it would change the meaning of every probability.
        """
        await self.manifest()
        return await self._driver.run(_compare.compare(self._session, images, texts, on_error, progress))

    async def classify(
        self,
        images: ImageInput | Iterable[ImageInput] | AsyncIterable[ImageInput],
        labels: str | Iterable[str] | AsyncIterable[str] | None = None,
        *,
        label_set: str | None = None,
        template: str = _defaults.TEMPLATE,
        top_k: int | None = None,
        threshold: float | None = None,
        on_error: OnError = "raise",
        progress: bool = False,
    ) -> Classifications:
        """Find the labels that fit each image, best first, at most ``top_k`` of them.

        Either from ``labels``: each is put where the ``template`` has ``{}``, and the image is compared with the
        sentences that this makes (their features are kept for the next call). Or from a ``label_set`` that is stored
        on the server (``manifest().label_sets``), with the templates it was made with.

        Labels of a probability below ``threshold`` are left out; an image may then have none.
        """
        steps = _classify.classify(
            self._session,
            images,
            labels,
            label_set,
            template=template,
            top_k=top_k,
            threshold=threshold,
            on_error=on_error,
            progress=progress,
        )
        return await self._driver.run(steps)

    async def count_tokens(self, texts: str | Iterable[str] | AsyncIterable[str]) -> list[int]:
        """How many tokens each text has, start and end among them.

        The model reads ``manifest().context_length`` of them at most, and cuts a longer text there.
        """
        return await self._driver.run(_tokens.count_tokens(self._session, TEXT.source(texts)))

    async def manifest(self, *, refresh: bool = False) -> Manifest:
        """What the server says about its model; asked once, then remembered until ``refresh`` or ``status``."""
        if refresh:  # outside the lock: whoever can do with the remembered one must not wait for this
            return await self._driver.run(_status.fetch_manifest(self._session))
        async with self._manifest_lock:
            if self._session.known.manifest is None:
                return await self._driver.run(_status.fetch_manifest(self._session))
            return self._session.known.manifest

    def with_timeout(self, timeout: float) -> Self:
        """This client with another timeout, for a request with a deadline of its own.

        Connections, and what is known of the server, are shared; close the one that was opened.
        """
        other = copy(self)
        other._session = self._session.with_timeout(timeout)
        return other

    async def status(self) -> Status:
        """Ask the server for its version, its models, its manifest, and its statistics."""
        return await self._driver.run(_status.status(self._session, str(self._url)))

    async def aclose(self) -> None:
        """Close all connections. The client cannot be used afterwards."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
