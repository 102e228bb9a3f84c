"""config.pbtxt: a model's configuration, read and written through Triton's own protobuf."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

CONFIG = "config.pbtxt"


def read_config(path: Path) -> ModelConfig:
    """Parse a config.pbtxt. Raises OSError, UnicodeDecodeError, and text_format.ParseError for what is none."""
    return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())


def write_config(config: ModelConfig, path: Path) -> None:
    """Write a config.pbtxt; comments of the one before are lost."""
    path.write_text(text_format.MessageToString(config), encoding="utf-8")
