"""config.pbtxt: a model's configuration, read and written through Triton's own protobuf."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tritonclip.protocol import qualified

CONFIG = "config.pbtxt"


def read_config(path: Path) -> ModelConfig:
    """Parse a config.pbtxt. Raises OSError, UnicodeDecodeError, and text_format.ParseError for what is none."""
    return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())


def rename_in_config(path: Path, rename: Callable[[str], str]) -> None:
    """Have a model go by another name in its config, and those that it is made of; comments are lost."""
    config = read_config(path)
    config.name = rename(config.name)
    for step in config.ensemble_scheduling.step:
        step.model_name = rename(step.model_name)
    write_config(config, path)


def name_models(repository: Path, name: str) -> None:
    """Put a name in front of those of all models in a folder, in their configs and as folders."""
    for folder in [path.parent for path in repository.glob(f"*/{CONFIG}")]:
        rename_in_config(folder / CONFIG, partial(qualified, name=name))
        folder.rename(folder.with_name(qualified(folder.name, name)))


def write_config(config: ModelConfig, path: Path) -> None:
    """Write a config.pbtxt; comments of the one before are lost."""
    path.write_text(text_format.MessageToString(config), encoding="utf-8")
