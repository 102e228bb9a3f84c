"""The index for asyncio: the same methods as ``Index``, what blocks in threads."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import numpy.typing as npt
import pyarrow as pa

from tritonclip._async_client import AsyncClient
from tritonclip._core.effects import Operation
from tritonclip._core.modality import ImageInput
from tritonclip._errors import ConfigError
from tritonclip._operations.truncation import OnTruncation
from tritonclip.search._add import AddReport
from tritonclip.search._build import BuildReport
from tritonclip.search._core import IndexCore, create_operation
from tritonclip.search._errors import IndexMissingError
from tritonclip.search._query import Weights
from tritonclip.search._results import Hit, IndexInfo, SearchResults
from tritonclip.search._schema import Precision
from tritonclip.search._searcher import EXACT_ROWS
from tritonclip.search._store import Store

T = TypeVar("T")
Uri = str | os.PathLike[str]


class AsyncIndex:
    """``Index`` with coroutines, for an ``AsyncClient``: the same arguments, results and errors.

    ``open`` and ``create`` are coroutines too. Use it in an ``async with`` block, or call ``close``.
    """

    def __init__(self, store: Store, client: AsyncClient | None = None, *, exact_rows: int = EXACT_ROWS) -> None:
        self._core = IndexCore(store, exact_rows)
        self._client = client

    @classmethod
    async def open(cls, uri: Uri, client: AsyncClient | None = None, *, exact_rows: int = EXACT_ROWS) -> Self:
        """The index that is there."""
        store = await asyncio.to_thread(Store.open, os.fspath(uri))
        return await asyncio.to_thread(cls, store, client, exact_rows=exact_rows)

    @classmethod
    async def create(
        cls,
        uri: Uri,
        client: AsyncClient,
        *,
        precision: Precision = "float32",
        thumbnails: bool = True,
        exact_rows: int = EXACT_ROWS,
    ) -> Self:
        """A new, empty index for the server's model; ConfigError where there is one already.

        ``precision`` is that of the vectors on disk: float16 halves it, and moves cosines by some 0.0002.
        """
        store = await client._run(create_operation(client._session, os.fspath(uri), precision, thumbnails=thumbnails))
        return await asyncio.to_thread(cls, store, client, exact_rows=exact_rows)

    @classmethod
    async def open_or_create(
        cls, uri: Uri, client: AsyncClient, *, precision: Precision = "float32", thumbnails: bool = True
    ) -> Self:
        """The index that is there, else a new one; the options are for a new one."""
        try:
            return await cls.open(uri, client)
        except IndexMissingError:
            return await cls.create(uri, client, precision=precision, thumbnails=thumbnails)

    async def add(
        self, sources: Uri | Iterable[Uri], *, digest: bool = False, prune: bool = False, progress: bool = False
    ) -> AddReport:
        """Embed images that are not in the index as they are, and keep them.

        Sources are folders, files, globs, URLs, tables (CSV, Parquet) and WebDataset's shards. What has the same path,
        size and time is passed over; with ``digest`` what has the same content. ``prune`` drops rows from these
        sources whose file is gone. Bad images are kept with their reasons (``errors``) and stop nothing. Each few
        thousand rows, or each minute, is one commit: whatever ends the run, the next one goes on from there.
        """
        operation = self._core.add(
            self._connected._session, sources, asynchronous=True, digest=digest, prune=prune, progress=progress
        )
        return await self._run(operation)

    async def search(
        self,
        text: str | None = None,
        *,
        image: ImageInput | None = None,
        vector: npt.ArrayLike | None = None,
        minus: str | Sequence[str] = (),
        weights: Weights | None = None,
        top_k: int = 20,
        where: str | None = None,
        exact: bool | None = None,
        on_truncation: OnTruncation = "warn",
    ) -> SearchResults:
        """The images nearest to a sentence, to an image, or to both, less what ``minus`` says; or to a ``vector`` [D].

        ``where`` is an SQL condition over the columns, such as ``width > 1000 AND caption LIKE '%dog%'``. ``exact``
        says whether every row is looked at; None decides by the number of rows.
        """
        if vector is not None:
            if text is not None or image is not None or len(minus):
                raise ConfigError("give a vector, or what makes one: text, image, minus")
            return await asyncio.to_thread(self._core.search_vector, vector, top_k=top_k, where=where, exact=exact)
        operation = self._core.search(
            self._connected._session,
            text,
            image,
            minus,
            weights or Weights(),
            on_truncation,
            top_k=top_k,
            where=where,
            exact=exact,
        )
        return await self._run(operation)

    async def search_vectors(
        self, vectors: npt.ArrayLike, *, top_k: int = 20, where: str | None = None
    ) -> list[SearchResults]:
        """The rows nearest to each of many vectors [Q, D], exactly, by one matrix product."""
        return await asyncio.to_thread(self._core.search_vectors, vectors, top_k=top_k, where=where)

    async def like(self, id: str, *, top_k: int = 20, where: str | None = None) -> SearchResults:  # noqa: A002 - Hit's name
        """The rows nearest to a row, itself left out."""
        return await asyncio.to_thread(self._core.like, id, top_k=top_k, where=where)

    async def thumbnail(self, id: str) -> bytes | None:  # noqa: A002 - Hit's name
        """A row's thumbnail, a JPEG of 128 pixels at most a side; None where it has none."""
        return await asyncio.to_thread(self._core.thumbnail, id)

    async def sample(self, count: int = 8) -> list[Hit]:
        """Some rows from all over the index, the same each time; their score is 0."""
        return await asyncio.to_thread(self._core.sample, count)

    async def near_duplicates(self, threshold: float = 0.97) -> list[list[Hit]]:
        """Groups of images that hang together by cosines of at least ``threshold``, the largest first.

        A hit's score is its cosine with the first of its group. All pairs are looked at: 100,000 rows take minutes.
        """
        return await asyncio.to_thread(self._core.near_duplicates, threshold)

    async def info(self) -> IndexInfo:
        """What the index is, and how large."""
        return await asyncio.to_thread(self._core.info)

    async def errors(self) -> pa.Table:
        """The images that could not be taken in: id, uri, reason, time."""
        return await asyncio.to_thread(self._core.errors)

    async def remove(self, uris: Uri | Iterable[Uri] = (), *, where: str | None = None) -> int:
        """Drop rows by uri (a path may be relative) or by a condition; how many. InputError names those not there."""
        return await asyncio.to_thread(self._core.remove, uris, where)

    async def build(self) -> BuildReport:
        """Make the store's ANN index for the rows that are there, and measure its recall against exact search."""
        return await asyncio.to_thread(self._core.build)

    async def compact(self) -> None:
        """Merge small files, take new rows into the ANN index, and drop versions older than ten minutes."""
        await asyncio.to_thread(self._core.compact)

    async def export_parquet(self, path: Uri) -> int:
        """Write all rows, vectors and metadata, to one Parquet file; how many."""
        return await asyncio.to_thread(self._core.export_parquet, path)

    async def export_npy(self, path: Uri) -> int:
        """Write the vectors [N, D] to a .npy file, and each row's id and uri to one beside it, .jsonl; how many."""
        return await asyncio.to_thread(self._core.export_npy, path)

    async def refresh(self) -> bool:
        """Look for new rows now; whether anything has changed."""
        return await asyncio.to_thread(self._core.refresh)

    def close(self) -> None:
        """Let go of what is in memory. The client stays open."""
        self._core.close()

    @property
    def _connected(self) -> AsyncClient:
        if self._client is None:
            raise ConfigError("this index was opened without a client, which makes vectors of words and images")
        return self._client

    async def _run(self, operation: Operation[T]) -> T:
        return await self._connected._run(operation)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
