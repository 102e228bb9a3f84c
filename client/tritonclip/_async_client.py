"""The client for asyncio: the same methods as ``Client``, the same operations behind them."""

from collections.abc import AsyncIterable, Iterable
from types import TracebackType
from typing import Self, TypeVar

from tritonclip import _defaults
from tritonclip._base_client import BaseClient
from tritonclip._client import OnError
from tritonclip._core.drivers import AsyncDriver
from tritonclip._core.effects import Operation
from tritonclip._core.modality import IMAGE, TEXT, ImageInput
from tritonclip._manifest import Manifest
from tritonclip._operations import classify, compare, embed, status, truncation
from tritonclip._operations.label_filter import LabelFilter
from tritonclip._operations.truncation import OnTruncation
from tritonclip._results import Classifications, Comparison, Embeddings, Status
from tritonclip.protocol.connection import Connection
from tritonclip.protocol.transport import AsyncTransport, open_async_transport

T = TypeVar("T")


class AsyncClient(BaseClient[AsyncTransport]):
    """Embeds images and texts, and compares them, on a Triton server, without blocking the event loop.

    Arguments, methods and errors are those of ``Client``. Items may also come from an asynchronous iterable; a plain
    one is read on the event loop. Files are read and pixels compressed in threads.

    One client may be shared by any number of tasks, of one event loop or of several, one after another or at once in
    threads of their own. Use it in an ``async with`` block, or call ``aclose``.
    """

    async def embed_images(
        self,
        images: ImageInput | Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        on_error: OnError = "raise",
        progress: bool = False,
    ) -> Embeddings:
        """Embed images: features [N, D] float32, as ``Client.embed_images`` does."""
        return await self._run(embed.embed_images(self._session, IMAGE.source(images), on_error, progress))

    async def embed_texts(
        self,
        texts: str | Iterable[str] | AsyncIterable[str],
        *,
        on_error: OnError = "raise",
        on_truncation: OnTruncation = "warn",
        progress: bool = False,
    ) -> Embeddings:
        """Embed texts: features [N, D] float32, as ``Client.embed_texts`` does."""
        source = TEXT.source(texts)
        return await self._run(embed.embed_texts(self._session, source, on_error, on_truncation, progress))

    async def compare(
        self,
        images: ImageInput | Iterable[ImageInput] | AsyncIterable[ImageInput],
        texts: str | Iterable[str] | AsyncIterable[str],
        *,
        on_error: OnError = "raise",
        on_truncation: OnTruncation = "warn",
        progress: bool = False,
    ) -> Comparison:
        """Compare each image with each text, as ``Client.compare`` does."""
        return await self._run(compare.compare(self._session, images, texts, on_error, on_truncation, progress))

    async def classify(
        self,
        images: ImageInput | Iterable[ImageInput] | AsyncIterable[ImageInput],
        labels: str | Iterable[str] | AsyncIterable[str] | None = None,
        *,
        label_set: str | None = None,
        template: str = _defaults.TEMPLATE,
        top_k: int | None = None,
        threshold: float | None = None,
        min_cosine: float | None = None,
        on_error: OnError = "raise",
        on_truncation: OnTruncation = "warn",
        progress: bool = False,
    ) -> Classifications:
        """Find the labels that fit each image, best first, as ``Client.classify`` does."""
        operation = classify.classify(
            self._session,
            images,
            labels,
            label_set,
            template=template,
            wanted=LabelFilter(top_k, threshold, min_cosine),
            on_error=on_error,
            on_truncation=on_truncation,
            progress=progress,
        )
        return await self._run(operation)

    async def count_tokens(self, texts: str | Iterable[str] | AsyncIterable[str]) -> list[int]:
        """How many tokens each text has, start and end among them.

        The model reads ``manifest().context_length`` of them at most, and cuts a longer text there.
        """
        return await self._run(truncation.count_tokens(self._session, TEXT.source(texts)))

    async def manifest(self, *, refresh: bool = False) -> Manifest:
        """What the server says about its model; asked once, then remembered until ``refresh`` or ``status``."""
        return await self._run(status.manifest(self._session, refresh=refresh))

    async def status(self) -> Status:
        """Ask the server for its version, its models, its manifest, and its statistics."""
        return await self._run(status.status(self._session, str(self._url)))

    async def aclose(self) -> None:
        """Close all connections. The client cannot be used afterwards."""
        await self._transport.aclose()

    def _open(self, connection: Connection) -> AsyncTransport:
        return open_async_transport(connection)

    async def _run(self, operation: Operation[T]) -> T:
        return await AsyncDriver(self._transport).run(operation)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
