"""Load a Python file by its path (model folders are not packages), and a model.py with a stand-in for Triton."""

import importlib.util
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = REPOSITORY / "model_repository"


def load_module(path: Path) -> ModuleType:
    """Execute the file as a module of its own. It may import the files beside it, at any time, as Triton lets it."""
    name = f"{path.parent.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


@dataclass
class Tensor:
    """pb_utils.Tensor."""

    name: str
    values: NDArray[Any]

    def as_numpy(self) -> NDArray[Any]:
        return self.values


@dataclass
class TritonError:
    """pb_utils.TritonError; the codes are names here."""

    message: str
    code: str

    INVALID_ARG = "INVALID_ARG"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass
class Response:
    """pb_utils.InferenceResponse."""

    output_tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None

    def has_error(self) -> bool:
        return self.error is not None


class Logger:
    """pb_utils.Logger; `errors` keeps what was logged."""

    errors: list[str]

    @classmethod
    def log_error(cls, message: str) -> None:
        cls.errors.append(message)


def load_model(path: Path, config: dict[str, Any]) -> Any:
    """Load a model.py with a fake triton_python_backend_utils and initialize it with this configuration."""
    fake: Any = ModuleType("triton_python_backend_utils")
    fake.Tensor, fake.TritonError, fake.InferenceResponse = Tensor, TritonError, Response
    fake.Logger = type("Logger", (Logger,), {"errors": []})
    fake.get_input_tensor_by_name = lambda request, name: request[name]
    with mock.patch.dict(sys.modules, {"triton_python_backend_utils": fake}):
        module = load_module(path)
    model = module.TritonPythonModel()
    model.initialize({"model_config": json_text({"name": path.parents[1].name, **config})})
    return model


def json_text(config: dict[str, Any]) -> str:
    """Write a configuration as Triton hands it over: parameters as string values."""
    parameters = {name: {"string_value": value} for name, value in config.get("parameters", {}).items()}
    return json.dumps({**config, "parameters": parameters})


def request(name: str, items: Iterable[bytes]) -> dict[str, Tensor]:
    """Make a request as the backend sees it: BYTES [B,1] as an array of objects."""
    return {name: Tensor(name, np.array([[item] for item in items], dtype=np.object_))}
