"""The index for blocking code."""

import os
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import numpy.typing as npt
import pyarrow as pa

from tritonclip._client import Client
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


class Index:
    """Images with their vectors, in a LanceDB database: a folder, or an object store's URI (s3://, gs://, az://).

    What adds or asks by words or images needs a ``client`` of the server whose model made the vectors. Threads may
    share an index. Searches see what others add, a second later at most; who adds sees it at once. Up to ``exact_rows``
    rows are held in memory (4 bytes a value) and searched exactly; over that an ANN index answers, once ``build`` has
    made one.

    Raises IndexMissingError where there is no index, IndexMismatchError where the client's server has another model,
    IndexLockedError where another process is writing, StorageError where the store fails, InputError for a query, a
    filter or an id that cannot be used, and what the client raises. All are TritonClipErrors.
    """

    def __init__(self, store: Store, client: Client | None = None, *, exact_rows: int = EXACT_ROWS) -> None:
        self._core = IndexCore(store, exact_rows)
        self._client = client

    @classmethod
    def open(cls, uri: Uri, client: Client | None = None, *, exact_rows: int = EXACT_ROWS) -> Self:
        """The index that is there."""
        return cls(Store.open(os.fspath(uri)), client, exact_rows=exact_rows)

    @classmethod
    def create(
        cls,
        uri: Uri,
        client: Client,
        *,
        precision: Precision = "float32",
        thumbnails: bool = True,
        exact_rows: int = EXACT_ROWS,
    ) -> Self:
        """A new, empty index for the server's model; ConfigError where there is one already.

        ``precision`` is that of the vectors on disk: float16 halves it, and moves cosines by some 0.0002.
        """
        store = client._run(create_operation(client._session, os.fspath(uri), precision, thumbnails=thumbnails))
        return cls(store, client, exact_rows=exact_rows)

    @classmethod
    def open_or_create(
        cls, uri: Uri, client: Client, *, precision: Precision = "float32", thumbnails: bool = True
    ) -> Self:
        """The index that is there, else a new one; the options are for a new one."""
        try:
            return cls.open(uri, client)
        except IndexMissingError:
            return cls.create(uri, client, precision=precision, thumbnails=thumbnails)

    def add(
        self, sources: Uri | Iterable[Uri], *, digest: bool = False, prune: bool = False, progress: bool = False
    ) -> AddReport:
        """Embed images that are not in the index as they are, and keep them.

        Sources are folders, files, globs, URLs, tables (CSV, Parquet), WebDataset's shards, and outputs of
        ``tritonclip embed-dataset``, whose vectors are taken as they are. What has the same path,
        size and time is passed over; with ``digest`` what has the same content. ``prune`` drops rows from these
        sources whose file is gone. Bad images are kept with their reasons (``errors``) and stop nothing. Each few
        thousand rows, or each minute, is one commit: whatever ends the run, the next one goes on from there.
        """
        operation = self._core.add(
            self._connected._session, sources, asynchronous=False, digest=digest, prune=prune, progress=progress
        )
        return self._run(operation)

    def search(
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
            return self._core.search_vector(vector, top_k=top_k, where=where, exact=exact)
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
        return self._run(operation)

    def search_vectors(
        self, vectors: npt.ArrayLike, *, top_k: int = 20, where: str | None = None
    ) -> list[SearchResults]:
        """The rows nearest to each of many vectors [Q, D], exactly, by one matrix product."""
        return self._core.search_vectors(vectors, top_k=top_k, where=where)

    def like(self, id: str, *, top_k: int = 20, where: str | None = None) -> SearchResults:  # noqa: A002 - Hit's name
        """The rows nearest to a row, itself left out."""
        return self._core.like(id, top_k=top_k, where=where)

    def thumbnail(self, id: str) -> bytes | None:  # noqa: A002 - Hit's name
        """A row's thumbnail, a JPEG of 128 pixels at most a side; None where it has none."""
        return self._core.thumbnail(id)

    def sample(self, count: int = 8) -> list[Hit]:
        """Some rows from all over the index, the same each time; their score is 0."""
        return self._core.sample(count)

    def near_duplicates(self, threshold: float = 0.97) -> list[list[Hit]]:
        """Groups of images that hang together by cosines of at least ``threshold``, the largest first.

        A hit's score is its cosine with the first of its group. All pairs are looked at: 100,000 rows take minutes.
        """
        return self._core.near_duplicates(threshold)

    def info(self) -> IndexInfo:
        """What the index is, and how large."""
        return self._core.info()

    def errors(self) -> pa.Table:
        """The images that could not be taken in: id, uri, reason, time."""
        return self._core.errors()

    def remove(self, uris: Uri | Iterable[Uri] = (), *, where: str | None = None) -> int:
        """Drop rows by uri (a path may be relative) or by a condition; how many. InputError names those not there."""
        return self._core.remove(uris, where)

    def build(self) -> BuildReport:
        """Make the store's ANN index for the rows that are there, and measure its recall against exact search."""
        return self._core.build()

    def compact(self) -> None:
        """Merge small files, take new rows into the ANN index, and drop versions older than ten minutes."""
        self._core.compact()

    def export_parquet(self, path: Uri) -> int:
        """Write all rows, vectors and metadata, to one Parquet file; how many."""
        return self._core.export_parquet(path)

    def export_npy(self, path: Uri) -> int:
        """Write the vectors [N, D] to a .npy file, and each row's id and uri to one beside it, .jsonl; how many."""
        return self._core.export_npy(path)

    def refresh(self) -> bool:
        """Look for new rows now; whether anything has changed."""
        return self._core.refresh()

    def close(self) -> None:
        """Let go of what is in memory. The client stays open."""
        self._core.close()

    @property
    def _connected(self) -> Client:
        if self._client is None:
            raise ConfigError("this index was opened without a client, which makes vectors of words and images")
        return self._client

    def _run(self, operation: Operation[T]) -> T:
        return self._connected._run(operation)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
