"""Triton adapter: texts in, one token array a batch out. The work is in tokenize_text.py."""

import json
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenize_text import InvalidText, Rows, TextTokenizer


class TritonPythonModel:
    """`text` BYTES [B,1] to `tokens` INT32 [B, context length] and `token_count` INT32 [B,1], of the text uncut."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer beside this file; a missing one or an unknown parameter stops the model from loading."""
        self.tokenizer = TextTokenizer.from_config(json.loads(args["model_config"]), Path(__file__).parent)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Fill one array for all requests and answer each with its slice, or with its own error."""
        batches = [pb_utils.get_input_tensor_by_name(request, "text").as_numpy() for request in requests]
        tokens = np.empty((sum(batch.size for batch in batches), self.tokenizer.context_length), np.int32)
        responses, start = [], 0
        for texts in batches:
            responses.append(self._respond(texts, tokens[start : start + texts.size]))
            start += texts.size
        return responses

    def _respond(self, texts: Any, rows: Rows) -> Any:
        if (
            texts.ndim != 2 or texts.shape[1] != 1
        ):  # Triton 2.51 lets pass what a batch dimension beyond 32 bits becomes
            shape = list(texts.shape)
            return _failure(f"text: shape {shape}, expected [-1, 1]", pb_utils.TritonError.INVALID_ARG)
        try:
            counts = self.tokenizer.fill(rows, texts[:, 0])
        except InvalidText as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:
            # A fault of ours, not of the text: one request fails, and the log says where.
            pb_utils.Logger.log_error(f"text_tokenize: {traceback.format_exc()}")
            return _failure(f"{type(error).__name__} while tokenizing", pb_utils.TritonError.INTERNAL)
        count = np.array(counts, np.int32).reshape(-1, 1)
        return pb_utils.InferenceResponse([pb_utils.Tensor("tokens", rows), pb_utils.Tensor("token_count", count)])


def _failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
