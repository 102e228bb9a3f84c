"""What a folder of output is: one input, one model, one set of options. It lies in the folder, and never changes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, get_args

import pyarrow as pa

from tritonclip._errors import ConfigError
from tritonclip._manifest import Manifest
from tritonclip.bulk._errors import storing
from tritonclip.bulk._places import UNFINISHED, Place, write
from tritonclip.bulk._shards import Modality

FILE: Final = "_tritonclip.json"
METADATA_KEY: Final = b"tritonclip"  # of the schema of every file of vectors
Precision = Literal["float32", "float16"]
TYPES: Final = {"float32": pa.float32(), "float16": pa.float16()}
_FORMAT: Final = 1


@dataclass(frozen=True)
class Job:
    """What is made of what, and by which model; it can be pickled, and holds no secrets.

    ``column`` is that of a table which is embedded, ``columns`` are carried along. ``parts`` says into how many shards
    a folder of images is cut.
    """

    input: str
    output: str
    modality: Modality
    column: str
    columns: tuple[str, ...]
    precision: Precision
    fingerprint: str
    variant: str | None
    width: int
    parts: int | None = None

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        source: Place,
        output: Place,
        *,
        texts: bool,
        column: str | None,
        columns: Sequence[str],
        precision: Precision,
    ) -> "Job":
        """That of a new output; ConfigError for options that make no sense."""
        if precision not in get_args(Precision):
            raise ConfigError(f"precision must be float32 or float16, not {precision!r}")
        if manifest.fingerprint is None or manifest.embedding_width is None:
            raise ConfigError("the server's manifest has no fingerprint, without which vectors cannot be told apart")
        own = {"uri", "vector", "text" if texts else "caption"}
        if taken := [name for name in columns if name in own or list(columns).count(name) > 1]:
            raise ConfigError(f"columns: {taken[0]!r} is there anyway, or twice")
        if source.contains(output) or output.contains(source):
            raise ConfigError(
                f"{output.uri} and {source.uri} lie in each other: a later run would read what this wrote"
            )
        return cls(
            source.uri,
            output.uri,
            "text" if texts else "image",
            column or ("text" if texts else "image"),
            tuple(columns),
            precision,
            manifest.fingerprint,
            manifest.variant,
            manifest.embedding_width,
        )

    def opened(self, place: Place) -> "Job":
        """This job, as the output at ``place`` has it, where that is one already.

        ConfigError says that the folder holds another job's vectors, or somebody else's files.
        """
        with storing(f"{place.uri}: cannot be read"):
            names = [found.path for found in place.files()]
            if FILE not in names:
                if others := [name for name in names if not name.endswith(UNFINISHED)]:
                    raise ConfigError(f"{place.uri}: holds {others[0]}, and is no data set of vectors: name another")
                return self
            found = read_job(place)
        mine, theirs = _facts(self), _facts(found)
        if other := [f"{name} {theirs[name]!r}, now {mine[name]!r}" for name in mine if mine[name] != theirs[name]]:
            raise ConfigError(f"{place.uri} holds vectors of another run ({'; '.join(other)}): name another folder")
        return found

    def keep(self, place: Place) -> None:
        """Write it into its folder, if it is not there; ConfigError where another run did at the same moment."""
        document = {"tritonclip_dataset": _FORMAT, **asdict(self)}
        del document["output"]  # the folder may be moved
        content = json.dumps(document, indent=1).encode() + b"\n"
        with storing(f"{place.uri}: cannot be read"):
            if not place.below(FILE).is_file():
                write(place.below(FILE), content)
            if read_job(place) != self:
                raise ConfigError(f"{place.uri}: another run began there at the same moment; run this one again")

    def metadata(self) -> dict[bytes, bytes]:
        """What the schema of its files says of the vectors in them."""
        said = ("fingerprint", "variant", "width", "modality", "precision")
        return {METADATA_KEY: json.dumps({name: getattr(self, name) for name in said}).encode()}


def read_job(place: Place) -> Job:
    """The job whose output is at a place; OSError where there is none, ConfigError where it cannot be read."""
    try:
        document: dict[str, Any] = json.loads(place.below(FILE).read())
        version = document.pop("tritonclip_dataset")
        if version != _FORMAT:
            raise ConfigError(f"{place.uri} was made by another version of tritonclip (format {version})")
        return Job(**{**document, "columns": tuple(document["columns"]), "output": place.uri})
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        if isinstance(exc, ConfigError):
            raise
        raise ConfigError(f"{place.uri}: its {FILE} cannot be read") from exc


def _facts(job: Job) -> dict[str, Any]:
    return asdict(replace(job, parts=None, output=""))
