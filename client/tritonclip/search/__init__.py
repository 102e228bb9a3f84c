"""Searching images: by a sentence, by an image, in a folder of one's own or in an object store.

>>> from tritonclip import Client
>>> from tritonclip.search import Index
>>> with Client("grpc://localhost:8001") as client, Index.open_or_create("photos.index", client) as index:
...     index.add("photos/")
...     index.search("a red bicycle", top_k=5).hits

How an image gets in: ``_sources`` (with ``_tables``, ``_shards``) finds it, ``_add`` embeds it through the server,
``_writer`` commits it with others to the ``_store``. How a query is answered: ``_query`` makes it one vector,
``_searcher`` compares that with a ``_snapshot`` in memory (``_top``) or asks the store's own index (``_ann``).

Needs ``pip install "tritonclip[search]"``.
"""

from tritonclip.search._add import AddReport
from tritonclip.search._async_index import AsyncIndex
from tritonclip.search._build import BuildReport
from tritonclip.search._errors import IndexLockedError, IndexMismatchError, IndexMissingError, StorageError
from tritonclip.search._index import Index
from tritonclip.search._query import Weights, mix
from tritonclip.search._results import Hit, IndexInfo, SearchResults
from tritonclip.search._sources import find_sources

__all__ = [
    "AddReport",
    "AsyncIndex",
    "BuildReport",
    "Hit",
    "Index",
    "IndexInfo",
    "IndexLockedError",
    "IndexMismatchError",
    "IndexMissingError",
    "SearchResults",
    "StorageError",
    "Weights",
    "find_sources",
    "mix",
]
