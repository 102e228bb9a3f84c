"""The configs of a GPU host, on a real Triton: all that can be run of them without a GPU."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from tests.reference import PHOTOS
from tests.serving import publish, start, take_as_published
from tritonclip import Client
from tritonclip_server.repository.configs import read_config, write_config


def publish_for_this_machine(folder: Path) -> tuple[Path, list[str]]:
    """A repository of a GPU host with KIND_GPU replaced, and nothing else; the models that this changed."""
    repository = publish("tiny-convnext", folder, host="gpu")
    moved = []
    for path in repository.glob("*/config.pbtxt"):
        config = read_config(path)
        for group in config.instance_group:
            if group.kind == ModelInstanceGroup.KIND_GPU:
                group.kind = ModelInstanceGroup.KIND_CPU
                moved.append(config.name)
        write_config(config, path)
    return repository, sorted(moved)


def test_they_load_and_warm_up_and_answer(tmp_path: Path) -> None:
    repository, moved = publish_for_this_machine(tmp_path / "served")
    assert moved == ["image_encoder", "similarity", "text_encoder"]
    running = start(repository, tmp_path / "log")
    try:
        with Client(running.grpc_url) as client:
            assert client.status().ready
            scores = client.compare(PHOTOS, ["a", "b"])
            assert scores.cosine.shape == (len(PHOTOS), 2)
    finally:
        running.stop()


class Telling(nn.Module):
    """A text encoder that writes into the log what it is asked for."""

    def forward(self, tokens: Tensor) -> Tensor:
        warnings.warn(f"encoding {tokens.shape[0]} texts", stacklevel=1)
        return torch.full((tokens.shape[0], 64), 0.125)


def test_warm_up_really_runs_before_a_model_is_ready(tmp_path: Path) -> None:
    """A forward pass of each batch that the config names has gone by when Triton takes the first request."""
    repository, _ = publish_for_this_machine(tmp_path / "served")
    torch.jit.script(Telling()).save(repository / "text_encoder" / "1" / "model.pt")  # type: ignore[no-untyped-call]
    take_as_published(repository)
    sizes = [sample.batch_size for sample in read_config(repository / "text_encoder" / "config.pbtxt").model_warmup]
    log = tmp_path / "log"
    start(repository, log).stop()
    before, loaded, _ = log.read_text().partition("successfully loaded 'text_encoder'")
    assert loaded
    assert sizes[-1] == 64
    assert [f"encoding {size} texts" in before for size in sizes] == [True] * len(sizes)
