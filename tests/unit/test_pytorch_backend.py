"""The LibTorch stand-in, on a fake of Triton's Python backend."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from tests import modules
from tritonclip_server.resources import PACKAGE

STAND_IN = PACKAGE / "embedded" / "backend" / "pytorch" / "model.py"
BACKLOG = modules.MODELS / "image_preprocess" / "1" / "backlog.py"


class Counted(nn.Module):
    """Doubles its input; fails for negative numbers."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if bool((tokens < 0).any()):
            raise RuntimeError("index out of range")
        return tokens.float() * 2


class Scores(nn.Module):
    """Two inputs whose order in the config is not that of forward(), and two outputs."""

    def forward(self, image_features: torch.Tensor, text_features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cosine = image_features @ text_features.T
        return cosine, cosine * 100


class Embedded(nn.Module):
    """Looks ten tokens up, as a text encoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(10, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        looked_up: torch.Tensor = self.token_embedding(tokens)
        return looked_up.sum(dim=1)


class CpuTensor(modules.Tensor):
    def is_cpu(self) -> bool:
        return True


TOKENS = {"tokens": ("TYPE_INT32", [3])}
FEATURES = {"text_features": ("TYPE_FP32", [-1, 4]), "image_features": ("TYPE_FP32", [-1, 4])}


def backend(
    module: nn.Module,
    folder: Path,
    inputs: dict[str, tuple[str, list[int]]],
    outputs: list[str],
    batches: int,
    **parameters: str,
) -> Any:
    """The stand-in, initialised on a scripted module as Triton would do it for a CPU instance."""
    (folder / "1").mkdir()
    torch.jit.script(module).save(str(folder / "1" / "model.pt"))  # type: ignore[no-untyped-call]
    fake: Any = ModuleType("triton_python_backend_utils")
    fake.Tensor, fake.TritonError, fake.InferenceResponse = CpuTensor, modules.TritonError, modules.Response
    fake.Logger = type("Logger", (modules.Logger,), {"errors": []})
    fake.get_input_tensor_by_name = lambda request, name: request.get(name)
    with mock.patch.dict(sys.modules, {"triton_python_backend_utils": fake, "backlog": modules.load_module(BACKLOG)}):
        model = modules.load_module(STAND_IN).TritonPythonModel()
    config = {
        "name": "encoder",
        # Triton hands dims over as strings: they are 64-bit integers of a protobuf.
        "input": [{"name": n, "data_type": d, "dims": [str(size) for size in dims]} for n, (d, dims) in inputs.items()],
        "output": [{"name": name} for name in outputs],
        "max_batch_size": batches,
        "dynamic_batching": {"default_queue_policy": {"max_queue_size": 4}},
        "parameters": parameters,
    }
    model.initialize(
        {
            "model_config": modules.json_text(config),
            "model_repository": str(folder),
            "model_version": "1",
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
        }
    )
    return model


def request(**arrays: Any) -> dict[str, CpuTensor]:
    return {name: CpuTensor(name, np.asarray(array)) for name, array in arrays.items()}


def test_requests_become_one_forward_pass_and_each_gets_its_own_rows(tmp_path: Path) -> None:
    model = backend(Counted(), tmp_path, TOKENS, ["features"], 64)
    calls: list[int] = []
    forward = model.model

    def counting(tokens: torch.Tensor) -> Any:
        calls.append(len(tokens))
        return forward(tokens)

    model.model = counting
    arrays = [np.full((size, 3), size, dtype=np.int32) for size in (1, 4, 2)]
    responses = model.execute([request(tokens=array) for array in arrays])
    assert calls == [7]
    for array, response in zip(arrays, responses, strict=True):
        (output,) = response.output_tensors
        assert output.name == "features"
        np.testing.assert_array_equal(output.as_numpy(), array * 2.0)


def test_weights_are_constants_of_the_loaded_graph(tmp_path: Path) -> None:
    linear = nn.Linear(3, 2).eval()
    model = backend(linear, tmp_path, {"input": ("TYPE_FP32", [3])}, ["features"], 64)
    assert list(model.model.parameters()) == []
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    (output,) = model.execute([request(input=array)])[0].output_tensors
    with torch.inference_mode():
        np.testing.assert_allclose(output.as_numpy(), linear(torch.from_numpy(array)).numpy(), rtol=1e-6)


def test_it_tells_what_it_has_taken_and_when_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONCLIP_BACKLOG", str(tmp_path / "server"))
    model = backend(Counted(), tmp_path, TOKENS, ["features"], 64)
    shared = modules.load_module(BACKLOG)
    others = shared.Backlog(tmp_path / "server.encoder")
    forward, seen = model.model, []

    def look(tokens: torch.Tensor) -> Any:
        seen.append((int(others.cells[shared.IDLE]), int(others.cells[shared.WAITING])))
        return forward(tokens)

    model.model = look
    one = np.ones((1, 3), dtype=np.int32)
    others.enter(4)
    others.leave(4, good=4)
    for requests in (1, 3, 2):
        model.execute([request(tokens=one)] * requests)
    assert seen == [(0, 3), (0, 0), (0, 0)]
    assert others.cells[shared.IDLE] == 1
    assert others.cells[shared.LIMIT] == 4


def test_a_failing_pass_fails_its_culprit_alone(tmp_path: Path) -> None:
    model = backend(Counted(), tmp_path, TOKENS, ["features"], 64)
    good, bad = (np.full((1, 3), value, dtype=np.int32) for value in (1, -1))
    answers = model.execute([request(tokens=array) for array in (good, bad, good, bad)])
    for answer in answers[0::2]:
        np.testing.assert_array_equal(answer.output_tensors[0].as_numpy(), good * 2.0)
    for answer in answers[1::2]:
        assert answer.error.code == modules.TritonError.INTERNAL
        assert "index out of range" in answer.error.message
        assert "\n" not in answer.error.message  # the trace, with the server's paths, is for its log
    # Triton 2.51 frees an error with the first response that it is sent in, and ends with signal 11 at the second.
    assert answers[1].error is not answers[3].error


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1, 2, 10]], np.int32), "tokens: item 0 has an id outside the vocabulary of 10 tokens"),
        (np.array([[1, 2, 3], [0, -1, 0]], np.int32), "tokens: item 1 has an id outside the vocabulary of 10 tokens"),
        (np.full((1, 3), 2**31 - 1, np.int32), "tokens: item 0 has an id outside the vocabulary of 10 tokens"),
        (np.zeros((1, 3), np.int64), "tokens: torch.int64, expected torch.int32"),
        (np.zeros((1, 3), np.float32), "tokens: torch.float32, expected torch.int32"),
        (np.zeros((1, 4), np.int32), "tokens: shape [1, 4], expected [-1, 3]"),
        (np.zeros(3, np.int32), "tokens: shape [3], expected [-1, 3]"),
        (np.zeros((1, 1, 3), np.int32), "tokens: shape [1, 1, 3], expected [-1, 3]"),
        (np.zeros((0, 3), np.int32), "tokens: no items"),
        (None, "tokens: missing"),
        (np.array([[b"1", b"2", b"3"]], np.object_), "tokens: can't convert np.ndarray of type numpy.object_."),
    ],
)
def test_what_the_model_was_not_made_for_is_refused_by_name_and_costs_nobody_else(
    array: Any, message: str, tmp_path: Path
) -> None:
    model = backend(Embedded(), tmp_path, TOKENS, ["features"], 64)
    good = np.array([[1, 2, 9]], np.int32)
    (alone,) = model.execute([request(tokens=good)])
    bad = {} if array is None else request(tokens=array)
    answers = model.execute([request(tokens=good), bad, bad, request(tokens=good)])
    for answer in answers[1:3]:
        assert answer.error.code == modules.TritonError.INVALID_ARG
        assert answer.error.message.startswith(message)
    assert answers[1].error is not answers[2].error
    for answer in (answers[0], answers[3]):
        np.testing.assert_array_equal(answer.output_tensors[0].as_numpy(), alone.output_tensors[0].as_numpy())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_by_item(value: float, tmp_path: Path) -> None:
    model = backend(Scores(), tmp_path, FEATURES, ["cosine", "logits"], 0)
    images, texts = np.eye(2, 4, dtype=np.float32), np.eye(3, 4, dtype=np.float32)
    spoilt = texts.copy()
    spoilt[2, 1] = value
    bad, good = model.execute(
        [request(text_features=spoilt, image_features=images), request(text_features=texts, image_features=images)]
    )
    assert bad.error.message == "text_features: item 2 has a value that is not finite"
    np.testing.assert_array_equal(good.output_tensors[0].as_numpy(), images @ texts.T)


def test_inputs_go_by_argument_name_and_outputs_by_the_configs_order(tmp_path: Path) -> None:
    model = backend(Scores(), tmp_path, FEATURES, ["cosine", "logits"], 0)
    images, texts = np.eye(2, 4, dtype=np.float32), np.eye(3, 4, dtype=np.float32)
    answers = model.execute(
        [request(text_features=texts, image_features=images), request(text_features=texts[:1], image_features=images)]
    )
    cosine, logits = answers[0].output_tensors
    assert (cosine.name, logits.name) == ("cosine", "logits")
    np.testing.assert_array_equal(cosine.as_numpy(), images @ texts.T)
    np.testing.assert_array_equal(logits.as_numpy(), images @ texts.T * 100)
    assert answers[1].output_tensors[0].as_numpy().shape == (2, 1)  # no batch dimension: each request by itself


def test_a_config_that_does_not_fit_the_module_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pixels, tokens"):
        backend(Counted(), tmp_path, {"pixels": TOKENS["tokens"]}, ["features"], 64)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("INFERENCE_MOD", "true", r"parameter INFERENCE_MOD: LibTorch has .*INFERENCE_MODE"),
        ("inference_mode", "true", "parameter inference_mode"),
        ("INFERENCE_MODE", "yes", "parameter INFERENCE_MODE: 'yes' is not true or false"),
        ("INTRA_OP_THREAD_COUNT", "0", "parameter INTRA_OP_THREAD_COUNT: '0' is not a number of at least 1"),
        ("INTER_OP_THREAD_COUNT", "two", "parameter INTER_OP_THREAD_COUNT: 'two'"),
    ],
)
def test_parameters_that_libtorch_does_not_have_are_refused(
    name: str, value: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        backend(Counted(), tmp_path, TOKENS, ["features"], 64, **{name: value})


def test_libtorch_parameters_are_honoured(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        model = backend(
            Counted(),
            tmp_path,
            TOKENS,
            ["features"],
            64,
            INTRA_OP_THREAD_COUNT="1",
            DISABLE_OPTIMIZED_EXECUTION="true",
            INFERENCE_MODE="true",
        )
        assert torch.get_num_threads() == 1
        seen: list[bool] = []

        def spy(tokens: torch.Tensor) -> torch.Tensor:
            seen.extend((torch.is_inference_mode_enabled(), torch._C._get_graph_executor_optimize()))
            return tokens

        model.model = spy
        model.execute([request(tokens=np.zeros((1, 3), dtype=np.int32))])
        assert seen == [True, False]
        model.parameters |= {"DISABLE_OPTIMIZED_EXECUTION": "false", "INFERENCE_MODE": "false"}
        model.execute([request(tokens=np.zeros((1, 3), dtype=np.int32))])
        assert seen[2:] == [False, True]
    finally:
        torch.set_num_threads(threads)
