"""Vectors that were made before, as ``tritonclip embed-dataset`` writes them: rows of an index without a request."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tritonclip._errors import ConfigError
from tritonclip.bulk._dataset import finished_shards
from tritonclip.bulk._job import FILE, Job, read_job
from tritonclip.bulk._places import Place
from tritonclip.search._errors import IndexMismatchError, storage
from tritonclip.search._items import Item, moment
from tritonclip.search._schema import Identity
from tritonclip.search._tables import ROWS_AT_ONCE, clean_metadata


@dataclass(frozen=True)
class VectorSource:
    """An output of ``embed-dataset``: its finished shards."""

    place: Place
    job: Job

    @classmethod
    def find(cls, name: str) -> "VectorSource | None":
        """The output at a path or a URI; None where a path is none of one, ConfigError where a URI is none."""
        if "://" not in name and not os.path.isfile(os.path.join(name, FILE)):
            return None
        place = Place.of(name)
        try:
            job = read_job(place)
        except OSError as exc:
            raise ConfigError(f"{name}: it is no output of `tritonclip embed-dataset`") from exc
        if job.modality != "image":
            raise ConfigError(f"{name} holds vectors of texts, and an index those of images")
        return cls(place, job)

    def check(self, identity: Identity) -> None:
        """Raise IndexMismatchError where these are another model's vectors than the index's."""
        if self.job.fingerprint != identity.fingerprint:
            raise IndexMismatchError(
                f"{self.place.uri} holds vectors of {self.job.variant} ({self.job.fingerprint}), and the index "
                f"those of {identity.variant} ({identity.fingerprint}): such vectors cannot be compared"
            )

    def count(self) -> int:
        """How many rows it has."""
        with storage(f"{self.place.uri}: cannot be read"):
            return sum(shard.rows for shard in finished_shards(self.place))

    def items(self) -> Iterator[Item]:
        """Its rows; their time is that of the file which they lie in."""
        with storage(f"{self.place.uri}: cannot be read"):
            for shard in finished_shards(self.place):
                yield from _rows(self.place.below(f"{shard.name}.parquet"))

    def holds(self, uri: str) -> bool:  # noqa: ARG002 - an image of another place, which may well have been added itself
        """Never: what its input has no longer is not looked for."""
        return False


def _rows(place: Place) -> Iterator[Item]:
    modified = moment(place.found().modified or 0)
    with (
        place.filesystem.open_input_file(place.path) as file,
        pa.parquet.ParquetFile(file) as table,
    ):
        for batch in table.iter_batches(ROWS_AT_ONCE):
            width = batch.schema.field("vector").type.list_size
            vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, width)
            for row, vector in zip(batch.drop_columns("vector").to_pylist(), vectors, strict=True):
                uri, caption = row.pop("uri"), row.pop("caption")
                yield Item(uri, _unread, None, modified, caption, clean_metadata(row), vector=vector)


def _unread() -> bytes:
    raise OSError("its vector is there already")
