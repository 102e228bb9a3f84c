"""Counts that docs/operations.md names, against the configs and requirements that they are of."""

import re
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

ROOT = Path(__file__).resolve().parents[2]
GUIDE = " ".join((ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split())
REPOSITORY = ROOT / "model_repository"
NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten"


def config(model: str) -> ModelConfig:
    return text_format.Parse((REPOSITORY / model / "config.pbtxt").read_text(encoding="utf-8"), ModelConfig())


def queue(model: str) -> int:
    size: int = config(model).dynamic_batching.default_queue_policy.max_queue_size
    return size


def test_queues() -> None:
    (named,) = re.findall(r"the queues \((\d+) images, (\d+) texts a stage\)", GUIDE)
    images, texts = map(int, named)
    assert {queue("image_preprocess"), queue("image_encoder")} == {images}
    assert {queue("text_tokenize"), queue("text_encoder")} == {texts}
    assert f"a full queue of {images} is" in GUIDE


def test_processes_that_decode() -> None:
    (count,) = re.findall(r"`image_preprocess` has (\d+) processes", GUIDE)
    assert [group.count for group in config("image_preprocess").instance_group] == [int(count)]


def test_packages_are_named_by_their_list_and_not_counted() -> None:
    assert "the packages of `requirements/models.txt`" in GUIDE
    assert re.findall(rf"\b(?:{NUMBERS}|\d+) (?:Python )?packages\b", GUIDE) == []
