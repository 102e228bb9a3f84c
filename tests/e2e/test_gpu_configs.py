"""The configs of a GPU host, on a real Triton: all that can be run of them without a GPU."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from export.configs import read_config
from serve.errors import ServerDied
from tests.reference import PHOTOS
from tests.serving import publish, start
from tritonclip import Client


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
        path.write_text(text_format.MessageToString(config))
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


def test_warm_up_really_runs_before_a_model_is_ready(tmp_path: Path) -> None:
    """With random token ids, which lie outside the vocabulary, its last sample is refused, and so must the start be.

    By the stand-in. LibTorch would answer such a sample with NaN, and start: its graphs cannot fail.
    """
    repository, _ = publish_for_this_machine(tmp_path / "served")
    path = repository / "text_encoder" / "config.pbtxt"
    config = read_config(path)
    assert config.model_warmup[-1].batch_size == 64
    config.model_warmup[-1].inputs["tokens"].random_data = True
    path.write_text(text_format.MessageToString(config))
    with pytest.raises(ServerDied, match="item 0 has an id outside the vocabulary"):
        start(repository, tmp_path / "log").stop()
