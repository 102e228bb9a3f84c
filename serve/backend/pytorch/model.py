"""Stand-in for Triton's LibTorch backend, as a Python-based backend: same model files, same parameters, same contract.

    requests ──concatenated along the batch dimension──> one forward pass ──split──> responses

Inputs map to `forward()` by argument name and outputs by the config's order, as in LibTorch. A model that Triton placed
on a GPU runs there. One exception fails every request of the batch, as it does in LibTorch: nothing invalid may reach
an encoder. Instances are processes here, so ENABLE_WEIGHT_SHARING has nothing to share.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from torch.utils import dlpack


class TritonPythonModel:
    """One instance of a TorchScript model."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Configs are complete as committed; nothing is guessed."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Load `<version>/model.pt` onto the device Triton chose, with the config's LibTorch parameters applied."""
        config = json.loads(args["model_config"])
        self.parameters: dict[str, str] = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._apply_process_settings()
        self.device = torch.device(f"cuda:{args['model_instance_device_id']}" if _on_gpu(args) else "cpu")
        path = Path(args["model_repository"]) / args["model_version"] / "model.pt"
        model = torch.jit.load(str(path), map_location=self.device).eval()  # type: ignore[no-untyped-call]
        # Frozen, the weights are constants: no look-ups through modules at each call, which a small batch notices.
        self.model = torch.jit.freeze(model)
        self.arguments = [argument.name for argument in self.model.forward.schema.arguments if argument.name != "self"]
        self.outputs = [output["name"] for output in config["output"]]
        self.batches = config["max_batch_size"] > 0
        unknown = {tensor["name"] for tensor in config["input"]} ^ set(self.arguments)
        if unknown:
            raise ValueError(f"inputs of the config and arguments of forward() differ: {', '.join(sorted(unknown))}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """One forward pass for all requests, or one each where the model has no batch dimension."""
        groups = [requests] if self.batches else [[request] for request in requests]
        responses = [response for group in groups for response in self._run(group)]
        if self._flag("ENABLE_CACHE_CLEANING") and self.device.type == "cuda":
            torch.cuda.empty_cache()
        return responses

    def _run(self, requests: list[Any]) -> list[Any]:
        try:
            batches = [self._gather(requests, name) for name in self.arguments]
            sizes = [len(tensor) for tensor in batches[0]]
            with torch.inference_mode(self._flag("INFERENCE_MODE", default=True)), torch.no_grad():
                optimized = not self._flag("DISABLE_OPTIMIZED_EXECUTION")
                with torch.jit.optimized_execution(optimized):  # type: ignore[attr-defined]
                    results = self.model(*(torch.cat(tensors).to(self.device) for tensors in batches))
            results = (results,) if isinstance(results, torch.Tensor) else results
            arrays = [result.cpu().numpy() for result in results]
        except Exception as error:
            # TorchScript puts the reason last, after a trace that is for the log alone.
            reason = f"forward pass failed: {(str(error).strip() or type(error).__name__).splitlines()[-1]}"
            pb_utils.Logger.log_error(f"{reason}\n{error}")
            failure = pb_utils.TritonError(reason, pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]
        return self._split(arrays, sizes)

    @staticmethod
    def _gather(requests: list[Any], name: str) -> list[torch.Tensor]:
        tensors = (pb_utils.get_input_tensor_by_name(request, name) for request in requests)
        return [
            torch.from_numpy(tensor.as_numpy()) if tensor.is_cpu() else dlpack.from_dlpack(tensor.to_dlpack())
            for tensor in tensors
        ]

    def _split(self, arrays: list[NDArray[np.float32]], sizes: list[int]) -> list[Any]:
        if not self.batches:
            return [self._response(arrays)]
        edges = np.cumsum([0, *sizes])
        return [self._response([array[start:end] for array in arrays]) for start, end in itertools.pairwise(edges)]

    def _response(self, arrays: list[NDArray[np.float32]]) -> Any:
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
        torch.backends.cudnn.enabled = not self._flag("DISABLE_CUDNN")


def _on_gpu(args: dict[str, str]) -> bool:
    return args["model_instance_kind"] == "GPU" and torch.cuda.is_available()
