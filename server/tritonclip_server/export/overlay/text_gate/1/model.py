"""Hands texts through unchanged; the image features are only waited for."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Inputs `image_features` FP32 [B, D] (ignored) and `text` BYTES [N, 1]; output `gated_text`, the same texts."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request."""
        return [self._pass_on(pb_utils.get_input_tensor_by_name(request, "text")) for request in requests]

    @staticmethod
    def _pass_on(text: Any) -> Any:
        return pb_utils.InferenceResponse([pb_utils.Tensor("gated_text", text.as_numpy())])
