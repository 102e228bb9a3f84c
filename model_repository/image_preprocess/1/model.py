"""Triton adapter: images in, one pixel array a batch out. The work is in preprocess.py."""

import json
import traceback
from functools import partial
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from backlog import Backlog
from pending import pending_requests
from preprocess import InvalidImage, OutOfMemory, Preprocessor, Row

OWN, ENCODER = "image_preprocess", "image_encoder"  # behind the name, if any, of the model that both are of


class TritonPythonModel:
    """`image` BYTES [B,1] to `pixels` UINT8 [B,3,H,W], RGB."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the size and the parameters; an unknown value stops the model from loading."""
        config = json.loads(args["model_config"])
        self.preprocessor = Preprocessor.from_config(config)
        encoder = config["name"].removesuffix(OWN) + ENCODER
        self._backlog = Backlog.of(encoder, partial(pending_requests, encoder))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Prepare them once the encoder has room, and answer each with its pixels, or with its own error."""
        self._backlog.enter(len(requests))
        responses: list[Any] = []
        try:
            responses = self.prepare(requests)
        finally:
            self._backlog.leave(len(requests), sum(not response.has_error() for response in responses))
        return responses

    def prepare(self, requests: list[Any]) -> list[Any]:
        """Fill one array for all requests, of which each gets its slice."""
        batches = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1) for request in requests]
        try:
            pixels = np.empty((sum(map(len, batches)), 3, *self.preprocessor.size), np.uint8)
        except MemoryError:
            return [_out_of_memory("a batch") for _ in requests]
        responses, start = [], 0
        for images in batches:
            responses.append(self._respond(images, pixels[start : start + len(images)]))
            start += len(images)
        return responses

    def _respond(self, images: Any, rows: Row) -> Any:
        index = 0
        try:
            for index, image in enumerate(images):
                self.preprocessor.fill(rows[index], image)
        except InvalidImage as error:
            return _failure(f"image {index}: {error}", pb_utils.TritonError.INVALID_ARG)
        except (OutOfMemory, MemoryError):
            return _out_of_memory(f"image {index}")
        except Exception as error:
            # A fault of ours, not of the image: one request fails, and the log says where.
            pb_utils.Logger.log_error(f"image_preprocess: image {index}\n{traceback.format_exc()}")
            return _failure(f"image {index}: {type(error).__name__} while preprocessing", pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse([pb_utils.Tensor("pixels", rows)])


def _out_of_memory(what: str) -> Any:
    """Refuse for now what may be good: HTTP 503, and clients that know it ask again."""
    return _failure(f"{what}: out of memory, try again", pb_utils.TritonError.UNAVAILABLE)


def _failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
