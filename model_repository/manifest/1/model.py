"""Answers with what is deployed: the manifest as JSON; for those who ask often its fingerprint or revision alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from deployed import read_deployed


class TritonPythonModel:
    """No inputs; outputs BYTES [1], read at the start: `manifest`, the JSON text, its `fingerprint` and `revision`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read them; a repository that must not be served stops this model, and with it the server, from starting."""
        manifest = read_deployed(Path(args["model_repository"]).parent)
        texts = {"manifest": json.dumps(manifest, ensure_ascii=False)}
        texts |= {name: manifest[name] for name in ("fingerprint", "revision")}
        self._outputs = {name: np.array([text.encode()], dtype=object) for name, text in texts.items()}

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, with the outputs it asks for."""
        return [self._respond(request.requested_output_names()) for request in requests]

    def _respond(self, names: list[str]) -> Any:
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, self._outputs[name]) for name in names])
