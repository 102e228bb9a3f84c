"""Shards to embed."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path


def write_tar(path: Path, images: Iterable[bytes]) -> None:
    """A WebDataset's shard of images alone."""
    with tarfile.open(path, "w") as tar:
        for number, content in enumerate(images):
            info = tarfile.TarInfo(f"{number:06}.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
