"""The configs of a GPU host, on a real Triton: all that can be run of them without a GPU."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from export.configs import read_config
from tests.reference import PHOTOS
from tests.serving import publish, start
from tritonclip import Client


def test_they_load_and_warm_up_and_answer_with_the_kind_of_instance_changed_alone(tmp_path: Path) -> None:
    repository = publish("tiny-convnext", tmp_path / "served", host="gpu")
    moved = []
    for path in repository.glob("*/config.pbtxt"):
        config = read_config(path)
        for group in config.instance_group:
            if group.kind == ModelInstanceGroup.KIND_GPU:
                group.kind = ModelInstanceGroup.KIND_CPU
                moved.append(config.name)
        path.write_text(text_format.MessageToString(config))
    assert sorted(moved) == ["image_encoder", "similarity", "text_encoder"]
    running = start(repository, tmp_path / "log")
    try:
        with Client(running.grpc_url) as client:
            assert client.status().ready
            scores = client.compare(PHOTOS, ["a", "b"])
            assert scores.cosine.shape == (len(PHOTOS), 2)
    finally:
        running.stop()
    log = (tmp_path / "log").read_text()
    for model in ("image_encoder", "text_encoder"):
        assert f"'{model}'" in log
