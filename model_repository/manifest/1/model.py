"""Answers with the served repository's manifest.json, which lies beside the model folders."""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """No inputs; one output `manifest` BYTES [1]: the JSON text, read once when the model loads."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the manifest; without one the repository was never published, and loading fails saying so."""
        path = Path(args["model_repository"]).parent / "manifest.json"
        if not path.is_file():
            raise FileNotFoundError("no manifest.json in this repository: publish one with `python -m export VARIANT`")
        self.manifest = np.array([path.read_bytes()], dtype=object)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request."""
        return [pb_utils.InferenceResponse([pb_utils.Tensor("manifest", self.manifest)]) for _ in requests]
