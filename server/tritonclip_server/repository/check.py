"""Whether a folder is a served repository, by the check that Triton's `manifest` model makes when it loads.

The check itself stands in the model repository: in production nothing of this package runs before Triton.
"""

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from tritonclip_server.repository.manifest import model_folder
from tritonclip_server.resources import MODEL_REPOSITORY

CHECK = "1/deployed.py"  # of `manifest`


class NotServable(Exception):
    """The folder cannot be served as it is; the message names the file and says what to do."""


def read_deployed(folder: Path, *, by_its_own: bool = False) -> dict[str, Any]:
    """The manifest with its label sets; NotServable where Triton's `manifest` model would refuse to load.

    That is where the manifest, an artifact or a label set is missing, broken, damaged or made for another encoder.
    `by_its_own` asks the check that lies in that repository: one that an older version exported knows less.
    """
    deployed = _load_check((model_folder(folder, "manifest") if by_its_own else MODEL_REPOSITORY / "manifest") / CHECK)
    try:
        manifest: dict[str, Any] = deployed.read_deployed(folder)
    except deployed.NotServable as error:
        raise NotServable(str(error)) from error
    return manifest


class _Reader(SourceFileLoader):
    """Loads a module and leaves no bytecode beside it: what is published holds what was published."""

    def set_data(self, *_: object, **__: object) -> None:
        """Write nothing."""


def _load_check(path: Path) -> Any:
    """The module; a model's folder is no package."""
    spec = importlib.util.spec_from_file_location("deployed", path, loader=_Reader("deployed", str(path)))
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} is missing: this installation is incomplete")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
