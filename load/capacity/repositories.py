"""Copies of a served repository with other settings, set through Triton's own protobuf."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tritonclip_server.export.configs import read_config

CONFIG = "config.pbtxt"
Edit = Callable[[ModelConfig], None]
"""Changes the config of one model, in place."""


@contextmanager
def edited(repository: Path, edits: Mapping[str, Edit]) -> Iterator[Path]:
    """A copy of a repository with the configs of these models edited; it is removed at the end."""
    with TemporaryDirectory(prefix="tritonclip-edited-") as folder:
        copy = Path(shutil.copytree(repository, Path(folder) / repository.name, copy_function=_link_or_copy))
        for model, edit in edits.items():
            path = copy / model / CONFIG
            config = read_config(path)
            edit(config)
            path.write_text(text_format.MessageToString(config), encoding="utf-8")
        yield copy


@contextmanager
def without_batching(repository: Path) -> Iterator[Path]:
    """A copy whose stages run each request alone."""

    def edit(config: ModelConfig) -> None:
        config.ClearField("dynamic_batching")

    batched = [path.parent.name for path in repository.glob(f"*/{CONFIG}") if _batches(path)]
    with edited(repository, dict.fromkeys(batched, edit)) as copy:
        yield copy


def _batches(path: Path) -> bool:
    return bool(read_config(path).HasField("dynamic_batching"))


def _link_or_copy(source: str, target: str) -> None:
    """Artifacts weigh hundreds of megabytes, so they are linked where that can be; configs will be written to."""
    if Path(source).name != CONFIG:
        try:
            os.link(source, target)
        except OSError:  # another filesystem
            pass
        else:
            return
    shutil.copy2(source, target)
