"""Data sets of any size to vectors: shard by shard, on one machine or on many, begun again where they ended.

>>> from tritonclip import Client
>>> from tritonclip.bulk import embed_dataset
>>> with Client("grpc://localhost:8001") as client:
...     embed_dataset(client, "s3://bucket/laion", "s3://bucket/vectors", columns=["similarity"])

``_dataset`` looks what is missing (``_shards`` what there is, ``_job`` what the output is), ``_engines`` hands it out,
``_embedding`` makes of each shard one file: ``_readers`` reads it, ``_places`` is where it lies, ``_pace`` keeps the
servers from being flooded.

Needs ``pip install "tritonclip[bulk]"``; for Ray ``"tritonclip[ray]"``.
"""

from tritonclip.bulk._dataset import Dataset, DatasetReport, embed_dataset, open_dataset
from tritonclip.bulk._embedding import ShardResult, embed_shard
from tritonclip.bulk._engines import paced_client
from tritonclip.bulk._errors import OutputError, ShardError
from tritonclip.bulk._job import Job
from tritonclip.bulk._shards import Shard

__all__ = [
    "Dataset",
    "DatasetReport",
    "Job",
    "OutputError",
    "Shard",
    "ShardError",
    "ShardResult",
    "embed_dataset",
    "embed_shard",
    "open_dataset",
    "paced_client",
]
