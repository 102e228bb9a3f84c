"""Whether a folder is a served repository, by the check that Triton's `manifest` model makes when it loads.

The check itself stands in the model repository: in production nothing of this package runs before Triton.
"""

import importlib.util
from pathlib import Path
from typing import Any

from tritonclip_server.resources import MODEL_REPOSITORY

CHECK = MODEL_REPOSITORY / "manifest" / "1" / "deployed.py"


class NotServable(Exception):
    """The folder cannot be served as it is; the message names the file and says what to do."""


def read_deployed(folder: Path) -> dict[str, Any]:
    """The manifest with its label sets; NotServable where Triton's `manifest` model would refuse to load.

    That is where the manifest, an artifact or a label set is missing, broken, damaged or made for another encoder.
    """
    deployed = _load_check()
    try:
        manifest: dict[str, Any] = deployed.read_deployed(folder)
    except deployed.NotServable as error:
        raise NotServable(str(error)) from error
    return manifest


def _load_check() -> Any:
    """The module; a model's folder is no package."""
    spec = importlib.util.spec_from_file_location("deployed", CHECK)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{CHECK} is missing: this installation is incomplete")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
