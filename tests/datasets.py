"""Small data sets, and what ``embed-dataset`` makes of them."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from tritonclip.bulk import ShardResult


def write_tar(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> Path:
    """A WebDataset's shard: of each key its members by ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, members in samples.items():
            for ending, content in members.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def captioned(images: Iterable[bytes], start: int = 0) -> dict[str, dict[str, bytes]]:
    """Samples of images, each with a caption and a number."""
    return {
        f"{number:06}": {
            "jpg": image,
            "txt": f"caption {number}".encode(),
            "json": json.dumps({"number": number, "tags": ["a", number]}).encode(),
        }
        for number, image in enumerate(images, start)
    }


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows, as any reader of Parquet sees the folder."""
    found: list[dict[str, Any]] = pa.parquet.read_table(folder).to_pylist()
    return found


def marker(folder: Path, name: str) -> ShardResult:
    """What a shard's marker says."""
    return ShardResult(**json.loads((folder / f"_{name}.json").read_bytes()))


def reasons(folder: Path, name: str) -> dict[str, str]:
    """Why rows of a shard failed, by the last part of their uri."""
    lines = (folder / f"_{name}.errors.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return {entry["uri"].rpartition("/")[2]: entry["reason"] for entry in found}
