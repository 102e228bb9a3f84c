"""Stand-in for Triton's LibTorch backend, as a Python-based backend: same model files, same parameters, same contract.

    requests ──checked, item by item──concatenated along the batch dimension──> one forward pass ──split──> responses
                        └─> INVALID_ARG

Inputs map to `forward()` by argument name and outputs by the config's order, as in LibTorch. A model that Triton placed
on a GPU runs there. LibTorch checks nothing, and there too no forward pass fails: the exported graphs answer whatever
Triton lets through, with NaN where there is no right answer. Here the caller is told what is wrong instead. Instances
are processes here, so ENABLE_WEIGHT_SHARING has nothing to share.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from backlog import Backlog
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import dlpack

SWITCHES = (
    "DISABLE_OPTIMIZED_EXECUTION",
    "INFERENCE_MODE",
    "DISABLE_CUDNN",
    "ENABLE_WEIGHT_SHARING",
    "ENABLE_CACHE_CLEANING",
    "ENABLE_JIT_EXECUTOR",
    "ENABLE_JIT_PROFILING",
    "ENABLE_TENSOR_FUSER",
)
NUMBERS = ("INTER_OP_THREAD_COUNT", "INTRA_OP_THREAD_COUNT")
DTYPES = {
    "TYPE_BOOL": torch.bool,
    "TYPE_UINT8": torch.uint8,
    "TYPE_INT8": torch.int8,
    "TYPE_INT16": torch.int16,
    "TYPE_INT32": torch.int32,
    "TYPE_INT64": torch.int64,
    "TYPE_FP16": torch.float16,
    "TYPE_FP32": torch.float32,
    "TYPE_FP64": torch.float64,
}
EMBEDDING = "token_embedding.weight"  # [vocabulary, width], at any depth of a graph that takes token ids

Inputs = dict[str, Tensor]


class InvalidInput(ValueError):
    """A request that the model cannot answer; the message names the input, the item and the reason."""


class TritonPythonModel:
    """One instance of a TorchScript model."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Configs are complete as committed; nothing is guessed."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Load `<version>/model.pt` onto the device Triton chose, with the config's LibTorch parameters applied.

        Raises ValueError where the config does not fit the graph, or has a parameter that LibTorch does not have.
        """
        config = json.loads(args["model_config"])
        self.parameters: dict[str, str] = {key: value["string_value"] for key, value in config["parameters"].items()}
        _check_parameters(self.parameters)
        self._apply_process_settings()
        self.device = torch.device(f"cuda:{args['model_instance_device_id']}" if _on_gpu(args) else "cpu")
        path = Path(args["model_repository"]) / args["model_version"] / "model.pt"
        model = torch.jit.load(str(path), map_location=self.device).eval()  # type: ignore[no-untyped-call]
        embeddings = (weight for name, weight in model.named_parameters() if name.endswith(EMBEDDING))
        self.vocabulary = next((len(weight) for weight in embeddings), None)
        # Frozen, the weights are constants: no look-ups through modules at each call, which a small batch notices.
        self.model = torch.jit.freeze(model)
        self.arguments = [argument.name for argument in self.model.forward.schema.arguments if argument.name != "self"]
        self.inputs: dict[str, dict[str, Any]] = {tensor["name"]: tensor for tensor in config["input"]}
        self.outputs = [output["name"] for output in config["output"]]
        self.max_batch_size = int(config["max_batch_size"])
        self.batches = self.max_batch_size > 0
        unknown = set(self.inputs) ^ set(self.arguments)
        if unknown:
            raise ValueError(f"inputs of the config and arguments of forward() differ: {', '.join(sorted(unknown))}")
        policy = config.get("dynamic_batching", {}).get("default_queue_policy", {})
        self.backlog = Backlog.of(config["name"])
        self.backlog.join(int(policy.get("max_queue_size", 0)))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One forward pass for all requests that can be answered, or one each where there is no batch dimension."""
        responses: list[Any] = [None] * len(requests)
        good: list[tuple[int, Inputs]] = []
        for index, request in enumerate(requests):
            try:
                good.append((index, self._read(request)))
            except InvalidInput as error:
                responses[index] = _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        with self._taken(len(requests)):
            for group in [good] if self.batches else [[one] for one in good]:
                if group:
                    for (index, _), response in zip(group, self._run([inputs for _, inputs in group]), strict=True):
                        responses[index] = response
        if self._flag("ENABLE_CACHE_CLEANING") and self.device.type == "cuda":
            torch.cuda.empty_cache()
        return responses

    @contextmanager
    def _taken(self, requests: int) -> Iterator[None]:
        """Say what this execution has taken from the queue, and at the end that the instance is free."""
        self.backlog.take(requests)
        try:
            yield
        finally:
            self.backlog.rest()

    def _read(self, request: Any) -> Inputs:
        """The tensors of a request by name; InvalidInput names the first that the model was not made for."""
        inputs = {}
        for name in self.arguments:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                raise InvalidInput(f"{name}: missing")
            try:
                on_cpu = tensor.is_cpu()
                inputs[name] = torch.from_numpy(tensor.as_numpy()) if on_cpu else dlpack.from_dlpack(tensor.to_dlpack())
            except TypeError as error:
                raise InvalidInput(f"{name}: {error}") from error
            self._check(name, inputs[name])
        return inputs

    def _check(self, name: str, tensor: Tensor) -> None:
        dtype, dims = DTYPES[self.inputs[name]["data_type"]], [int(size) for size in self.inputs[name]["dims"]]
        expected = [-1, *dims] if self.batches else dims
        if tensor.dtype != dtype:
            raise InvalidInput(f"{name}: {tensor.dtype}, expected {dtype}")
        if tensor.ndim != len(expected) or any(
            n not in (size, -1) for n, size in zip(expected, tensor.shape, strict=True)
        ):
            raise InvalidInput(f"{name}: shape {list(tensor.shape)}, expected {expected}")
        if not len(tensor):
            raise InvalidInput(f"{name}: no items")
        if tensor.is_floating_point():
            self._refuse_item(name, ~tensor.isfinite(), "a value that is not finite")
        elif self.vocabulary is not None:
            outside = (tensor < 0) | (tensor >= self.vocabulary)
            self._refuse_item(name, outside, f"an id outside the vocabulary of {self.vocabulary} tokens")

    @staticmethod
    def _refuse_item(name: str, wrong: Tensor, reason: str) -> None:
        items = wrong.flatten(1).any(dim=1)
        if bool(items.any()):
            raise InvalidInput(f"{name}: item {int(items.int().argmax())} has {reason}")

    def _run(self, batch: list[Inputs]) -> list[Any]:
        """One forward pass. Should it fail all the same, each request is tried alone, and only the culprit fails."""
        try:
            arrays = self._forward(batch)
        except Exception as error:
            if len(batch) > 1:
                return [response for inputs in batch for response in self._run([inputs])]
            # TorchScript puts the reason last, after a trace that is for the log alone.
            reason = f"forward pass failed: {(str(error).strip() or type(error).__name__).splitlines()[-1]}"
            pb_utils.Logger.log_error(f"{reason}\n{error}")
            return [_failure(reason, pb_utils.TritonError.INTERNAL)]
        return self._split(arrays, [len(inputs[self.arguments[0]]) for inputs in batch])

    def _forward(self, batch: list[Inputs]) -> list[NDArray[Any]]:
        tensors = [torch.cat([inputs[name] for inputs in batch]).to(self.device) for name in self.arguments]
        with torch.inference_mode(self._flag("INFERENCE_MODE", default=True)), torch.no_grad():
            optimized = not self._flag("DISABLE_OPTIMIZED_EXECUTION")
            with torch.jit.optimized_execution(optimized):  # type: ignore[attr-defined]
                results = self.model(*tensors)
        return [result.cpu().numpy() for result in ((results,) if isinstance(results, Tensor) else results)]

    def _split(self, arrays: list[NDArray[Any]], sizes: Sequence[int]) -> list[Any]:
        if not self.batches:
            return [self._response(arrays)]
        edges = np.cumsum([0, *sizes])
        return [self._response([array[start:end] for array in arrays]) for start, end in itertools.pairwise(edges)]

    def _response(self, arrays: list[NDArray[Any]]) -> Any:
        tensors = [pb_utils.Tensor(name, array) for name, array in zip(self.outputs, arrays, strict=True)]
        return pb_utils.InferenceResponse(tensors)

    def _flag(self, key: str, default: bool = False) -> bool:
        return self.parameters.get(key, str(default)).lower() == "true"

    def _apply_process_settings(self) -> None:
        """The parameters that LibTorch applies to the whole process."""
        if "INTRA_OP_THREAD_COUNT" in self.parameters:
            torch.set_num_threads(int(self.parameters["INTRA_OP_THREAD_COUNT"]))
        if "INTER_OP_THREAD_COUNT" in self.parameters:
            torch.set_num_interop_threads(int(self.parameters["INTER_OP_THREAD_COUNT"]))
        if "ENABLE_JIT_EXECUTOR" in self.parameters:
            torch._C._jit_set_profiling_executor(self._flag("ENABLE_JIT_EXECUTOR"))
        if "ENABLE_JIT_PROFILING" in self.parameters:
            torch._C._jit_set_profiling_mode(self._flag("ENABLE_JIT_PROFILING"))
        if "ENABLE_TENSOR_FUSER" in self.parameters:
            torch._C._jit_set_texpr_fuser_enabled(self._flag("ENABLE_TENSOR_FUSER"))
        torch.backends.cudnn.enabled = not self._flag("DISABLE_CUDNN")


def _check_parameters(parameters: dict[str, str]) -> None:
    for key, value in parameters.items():
        if key not in (*SWITCHES, *NUMBERS):
            raise ValueError(f"parameter {key}: LibTorch has {', '.join((*SWITCHES, *NUMBERS))}")
        if key in SWITCHES and value.lower() not in ("true", "false"):
            raise ValueError(f"parameter {key}: {value!r} is not true or false")
        if key in NUMBERS and not (value.isdecimal() and int(value) > 0):
            raise ValueError(f"parameter {key}: {value!r} is not a number of at least 1")


def _failure(message: str, code: Any) -> Any:
    """A response that owns its error: Triton 2.51 frees an error with the first response that it is sent in."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def _on_gpu(args: dict[str, str]) -> bool:
    return args["model_instance_kind"] == "GPU" and torch.cuda.is_available()
