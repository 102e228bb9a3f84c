"""The table of an index: its columns, and what its schema says of the encoder that made the vectors.

id         20 hexadecimal digits, made from the uri: the key of a row
uri        where the image is: an absolute path, a URL, or FILE#MEMBER inside a shard or a table
vector     of length 1, float32 or float16
width, height, bytes, digest (SHA-256), mtime, caption, thumbnail (JPEG); null where not known
and the user's own columns
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import pyarrow as pa

from tritonclip._errors import ConfigError
from tritonclip._manifest import Manifest
from tritonclip.search._errors import IndexMismatchError

Precision = Literal["float32", "float16"]
TYPES = {"float32": pa.float32(), "float16": pa.float16()}
ID_BYTES = 10
METADATA_KEY = b"tritonclip"
FORMAT = 1  # of the table; a later one is for a later version of this package
OWN_COLUMNS = ("id", "uri", "vector", "width", "height", "bytes", "digest", "mtime", "caption", "thumbnail")
HEAVY_COLUMNS = ("vector", "thumbnail")

ERRORS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)


@dataclass(frozen=True)
class Identity:
    """What made the vectors of an index, and how they are kept; it lies in the table's schema."""

    fingerprint: str
    variant: str | None
    width: int
    precision: Precision
    thumbnails: bool
    format: int = FORMAT

    @classmethod
    def of(cls, manifest: Manifest, precision: Precision, *, thumbnails: bool) -> "Identity":
        """That of a new index for the server's model; ConfigError where the server does not say what it is."""
        if precision not in get_args(Precision):
            raise ConfigError(f"precision must be float32 or float16, not {precision!r}")
        if manifest.fingerprint is None or manifest.embedding_width is None:
            raise ConfigError("the server's manifest has no fingerprint, without which vectors cannot be told apart")
        return cls(manifest.fingerprint, manifest.variant, manifest.embedding_width, precision, thumbnails)

    @classmethod
    def read(cls, schema: pa.Schema, uri: str) -> "Identity":
        """What a table says; ConfigError where it is none of ours."""
        text = (schema.metadata or {}).get(METADATA_KEY)
        if text is None:
            raise ConfigError(f"{uri}: its table `images` was not made by tritonclip")
        document: dict[str, Any] = json.loads(text)
        if document.get("format") != FORMAT:
            raise ConfigError(f"{uri} was made by another version of tritonclip (format {document.get('format')})")
        return cls(**document)

    def schema(self) -> pa.Schema:
        """Of a new table."""
        fields = [
            pa.field("id", pa.string(), nullable=False),
            pa.field("uri", pa.string(), nullable=False),
            pa.field("vector", pa.list_(TYPES[self.precision], self.width), nullable=False),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("bytes", pa.int64()),
            pa.field("digest", pa.string()),
            pa.field("mtime", pa.timestamp("us", tz="UTC")),
            pa.field("caption", pa.string()),
            pa.field("thumbnail", pa.binary()),
        ]
        return pa.schema(fields, metadata={METADATA_KEY: json.dumps(asdict(self)).encode()})

    def check(self, manifest: Manifest, uri: str) -> None:
        """Raise IndexMismatchError where the server's model is another one."""
        if manifest.fingerprint != self.fingerprint:
            raise IndexMismatchError(
                f"{uri} holds vectors of {self.variant} ({self.fingerprint}), and the server has "
                f"{manifest.variant} ({manifest.fingerprint}): such vectors cannot be compared"
            )


def row_id(uri: str) -> str:
    """The key of an image: the same for the same uri."""
    return hashlib.blake2b(uri.encode(), digest_size=ID_BYTES).hexdigest()
