"""The committed configs are what the exporter and the client assume, and publishing changes exactly what it must."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup, ModelQueuePolicy

from tritonclip_server.embedded.gateway import items_in_flight
from tritonclip_server.embedded.repository import encoder_queue
from tritonclip_server.export.checkpoint import Preprocessing, load_checkpoint
from tritonclip_server.export.classifiers import TEMPLATES
from tritonclip_server.export.configs import OVERLAY, Deployment, configure
from tritonclip_server.export.encoders import LENGTHS
from tritonclip_server.export.pipeline import deployment_of
from tritonclip_server.export.publishing import staged
from tritonclip_server.export.tokenizer import TokenizerSettings
from tritonclip_server.export.variants import Variant, default_variant, resolve
from tritonclip_server.export.warmup import write_warmup_texts
from tritonclip_server.repository.configs import read_config
from tritonclip_server.resources import MODEL_REPOSITORY

STAGES = ("image_preprocess", "image_encoder", "text_tokenize", "text_encoder")
ENSEMBLES = ("embed_image", "embed_text", "compare")
DEFAULT = Deployment(  # of the default variant on a GPU host, as test_the_default_variant… finds it
    host="gpu",
    preprocessing=Preprocessing(
        256, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, "bicubic", "shortest", 0
    ),
    embedding_width=640,
    tokenizer=TokenizerSettings(clean="lower", context_length=77, end_id=49_407),
    small_image_encoder=False,
)
LARGER = resolve("convnext_base_w_320-laion_aesthetic_s13b_b82k_augreg")
VIT = resolve("ViT-B-32/openai")


def deployment(variant: Variant, host: str = "gpu") -> Deployment:
    """What the exporter finds out about a variant."""
    return deployment_of(load_checkpoint(variant, random=True), host)


@pytest.fixture(scope="module")
def committed() -> dict[str, ModelConfig]:
    return configs_of(MODEL_REPOSITORY)


def configs_of(repository: Path) -> dict[str, ModelConfig]:
    return {path.parent.name: read_config(path) for path in repository.glob("*/config.pbtxt")}


def published(target: Deployment, folder: Path) -> Path:
    with staged(folder / "served", target.host) as repository:
        configure(repository, target)
        write_warmup_texts(repository, target)
    return folder / "served"


def differences(before: Any, after: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of `after` that differs from `before`, by its path in the JSON form."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        parts = [differences(before.get(key), after.get(key), f"{path}.{key}" if path else key) for key in keys]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        parts = [differences(old, new, f"{path}[{i}]") for i, (old, new) in enumerate(zip(before, after, strict=True))]
    else:
        return {} if before == after else {path: after}
    return {key: value for part in parts for key, value in part.items()}


def changes(target: Deployment, folder: Path) -> dict[str, dict[str, Any]]:
    """What publishing this deployment changes, by model."""
    before = {name: json_format.MessageToDict(config) for name, config in configs_of(MODEL_REPOSITORY).items()}
    after = {name: json_format.MessageToDict(config) for name, config in configs_of(published(target, folder)).items()}
    found = {name: differences(before.get(name), after[name]) for name in after}
    return {name: difference for name, difference in found.items() if difference}


def test_names_and_tensors_are_those_of_the_design(committed: dict[str, ModelConfig]) -> None:
    def shape(config: ModelConfig) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        return {t.name: list(t.dims) for t in config.input}, {t.name: list(t.dims) for t in config.output}

    scores = {key: [-1, -1] for key in ("cosine", "logits", "probabilities")}
    assert {name: shape(config) for name, config in committed.items()} == {
        "embed_image": ({"image": [1]}, {"image_features": [640]}),
        "embed_text": ({"text": [1]}, {"text_features": [640]}),
        "compare": ({"image": [-1, 1], "text": [-1, 1]}, scores),
        "image_preprocess": ({"image": [1]}, {"pixels": [3, 256, 256]}),
        "image_encoder": ({"pixels": [3, 256, 256]}, {"image_features": [640]}),
        "text_tokenize": ({"text": [1]}, {"tokens": [77], "token_count": [1]}),
        "text_encoder": ({"tokens": [77]}, {"text_features": [640]}),
        "similarity": ({"image_features": [-1, 640], "text_features": [-1, 640]}, scores),
        "manifest": ({}, {"manifest": [1], "fingerprint": [1], "revision": [1]}),
    }
    assert all(config.name == name for name, config in committed.items())


def test_all_four_stages_batch_and_refuse_overload(committed: dict[str, ModelConfig]) -> None:
    for name in STAGES:
        assert committed[name].HasField("dynamic_batching"), name
        policy = committed[name].dynamic_batching.default_queue_policy
        assert policy.timeout_action == ModelQueuePolicy.REJECT
        assert 0 < policy.max_queue_size <= 512


def test_one_request_may_carry_the_same_batch_through_every_stage(committed: dict[str, ModelConfig]) -> None:
    sizes = {committed[name].max_batch_size for name in (*STAGES, "embed_image", "embed_text")}
    assert sizes == {64}
    assert committed["compare"].max_batch_size == committed["similarity"].max_batch_size == 0


@pytest.mark.parametrize("host", ["cpu", "gpu"])
def test_a_stage_with_a_queue_limit_has_two_instances(host: str, tmp_path: Path) -> None:
    """With one, Triton leaves what waits for it lying for half a second (docs/architecture.md)."""
    configs = configs_of(published(replace(DEFAULT, host=host), tmp_path))
    limited = {
        name: sum(group.count for group in config.instance_group)
        for name, config in configs.items()
        if config.dynamic_batching.default_queue_policy.max_queue_size > 0
    }
    assert limited.keys() == set(STAGES)
    assert min(limited.values()) >= 2


def test_the_head_of_a_label_set_has_no_batcher() -> None:
    """It has one instance, and nothing to gain from a batch."""
    head = read_config(TEMPLATES / "weights" / "config.pbtxt")
    assert not head.HasField("dynamic_batching")
    assert [group.count for group in head.instance_group] == [1]


def test_encoders_are_warmed_at_every_class_of_batch_size(committed: dict[str, ModelConfig]) -> None:
    for name, times in (("image_encoder", 1), ("text_encoder", len(LENGTHS) + 1)):
        warmups = committed[name].model_warmup
        assert [warmup.batch_size for warmup in warmups] == [n for n in (1, 2, 4, 8, 16, 32, 64) for _ in range(times)]
        assert all(warmup.count >= 3 for warmup in warmups)
        for warmup in warmups:
            assert {k: list(v.dims) for k, v in warmup.inputs.items()} == {
                tensor.name: list(tensor.dims) for tensor in committed[name].input
            }


def test_texts_of_the_warm_up_have_every_length_at_every_batch_size(committed: dict[str, ModelConfig]) -> None:
    ends = {}
    for path in (MODEL_REPOSITORY / "text_encoder" / "warmup").iterdir():
        tokens = np.frombuffer(path.read_bytes(), "<i4")
        assert tokens.shape == (77,)
        assert tokens.max() == DEFAULT.tokenizer.end_id
        ends[path.name] = int(tokens.argmax()) + 1
    assert sorted(ends.values()) == [*LENGTHS, 77]
    files: dict[int, list[str]] = {}
    for warmup in committed["text_encoder"].model_warmup:
        files.setdefault(warmup.batch_size, []).append(warmup.inputs["tokens"].input_data_file)
    assert all(sorted(names) == sorted(ends) for names in files.values())


def test_another_context_and_end_have_warm_up_texts_of_their_own(tmp_path: Path) -> None:
    for context, ends in ((77, [16, 32, 77]), (24, [16, 24, 24]), (8, [8, 8, 8])):
        folder = (
            published(replace(DEFAULT, tokenizer=TokenizerSettings("lower", context, 5)), tmp_path)
            / "text_encoder"
            / "warmup"
        )
        texts = {path.name: np.frombuffer(path.read_bytes(), "<i4") for path in folder.iterdir()}
        assert {len(tokens) for tokens in texts.values()} == {context}
        assert sorted(int(tokens.argmax()) + 1 for tokens in texts.values()) == ends
        assert {int(tokens.max()) for tokens in texts.values()} == {5}


def test_ensembles_carry_nothing_that_triton_forbids(committed: dict[str, ModelConfig]) -> None:
    for name in ENSEMBLES:
        config = committed[name]
        assert not config.model_warmup
        assert not config.instance_group
        assert not config.HasField("optimization")
        assert all(step.model_version == -1 for step in config.ensemble_scheduling.step)
    assert committed["embed_text"].response_cache.enable
    assert not committed["embed_image"].response_cache.enable


def test_every_model_has_its_version_folder(committed: dict[str, ModelConfig]) -> None:
    for name in committed:
        assert (MODEL_REPOSITORY / name / "1").is_dir()


def test_the_default_variant_on_a_gpu_host_is_the_committed_repository_byte_for_byte(tmp_path: Path) -> None:
    assert deployment(default_variant()) == DEFAULT
    repository = published(DEFAULT, tmp_path)
    for path in (*MODEL_REPOSITORY.rglob("config.pbtxt"), *MODEL_REPOSITORY.glob("*/warmup/*")):
        assert (repository / path.relative_to(MODEL_REPOSITORY)).read_bytes() == path.read_bytes()
    assert not (repository / "text_gate").exists()


def test_a_320_pixel_variant_changes_the_pixels_and_nothing_else(tmp_path: Path) -> None:
    sizes = ["320", "320"]
    warmups = {f"modelWarmup[{i}].inputs.pixels.dims[{axis}]": "320" for i in range(7) for axis in (1, 2)}
    assert changes(deployment(LARGER), tmp_path) == {
        "image_preprocess": dict(zip(("output[0].dims[1]", "output[0].dims[2]"), sizes, strict=True)),
        "image_encoder": dict(zip(("input[0].dims[1]", "input[0].dims[2]"), sizes, strict=True)) | warmups,
    }


def test_a_vit_changes_sizes_and_width_and_nothing_else(tmp_path: Path) -> None:
    changed = changes(deployment(VIT), tmp_path)
    assert set(changed) == {
        "embed_image", "embed_text", "image_preprocess", "image_encoder", "text_encoder", "similarity",
    }  # fmt: skip
    assert changed["embed_image"] == changed["embed_text"] == changed["text_encoder"] == {"output[0].dims[0]": "512"}
    assert changed["similarity"] == {"input[0].dims[1]": "512", "input[1].dims[1]": "512"}
    assert {path.split(".")[-1]: value for path, value in changed["image_encoder"].items()} == {
        "dims[0]": "512", "dims[1]": "224", "dims[2]": "224",
    }  # fmt: skip


def test_another_context_length_cleaning_and_resize_mode(tmp_path: Path) -> None:
    settings = replace(DEFAULT.preprocessing, resize_mode="squash", interpolation="bilinear", fill_color=255)
    changed = changes(
        replace(DEFAULT, preprocessing=settings, tokenizer=TokenizerSettings("canonicalize", 32, 49_407)), tmp_path
    )
    assert changed["image_preprocess"] == {
        "parameters.resize_mode.stringValue": "squash",
        "parameters.interpolation.stringValue": "bilinear",
        "parameters.fill_color.stringValue": "255",
    }
    assert changed["text_tokenize"] == {"output[0].dims[0]": "32", "parameters.clean.stringValue": "canonicalize"}
    assert changed["text_encoder"]["input[0].dims[0]"] == "32"


def test_a_cpu_host_changes_instances_queues_warmup_and_the_shape_of_compare(tmp_path: Path) -> None:
    changed = changes(replace(DEFAULT, host="cpu"), tmp_path)
    queue = "dynamicBatching.defaultQueuePolicy.maxQueueSize"
    one_warmup = {"image_encoder", "text_encoder"}
    for name in one_warmup:
        (warmup,) = changed[name].pop("modelWarmup")
        assert (warmup["batchSize"], warmup["count"]) == (1, 1)
    gate = changed["compare"].pop("ensembleScheduling.step")
    assert changed == {
        "image_preprocess": {"instanceGroup[0].count": 2, queue: 8},
        "text_tokenize": {queue: 64},
        "image_encoder": {"instanceGroup[0].kind": None, queue: 8},
        "text_encoder": {"instanceGroup[0].kind": None, queue: 64},
        "similarity": {"instanceGroup[0].kind": None},
        "compare": {},
        "text_gate": {"": json_format.MessageToDict(read_config(OVERLAY / "text_gate" / "config.pbtxt"))},
    }
    assert ModelInstanceGroup().kind == ModelInstanceGroup.KIND_AUTO  # what an absent kind means
    assert [step["modelName"] for step in gate][-1] == "text_gate"


def test_a_small_image_encoder_has_one_thread_a_process_on_a_cpu_host_and_no_say_on_a_gpu(tmp_path: Path) -> None:
    assert deployment_of(load_checkpoint(resolve("demo")), "cpu").small_image_encoder
    assert not DEFAULT.small_image_encoder
    for host, small, threads in (("cpu", True, "1"), ("cpu", False, ""), ("gpu", True, "")):
        target = replace(DEFAULT, host=host, small_image_encoder=small)
        folder = tmp_path / f"{host}-{small}"
        folder.mkdir()
        config = configs_of(published(target, folder))["image_encoder"]
        assert config.parameters["INTRA_OP_THREAD_COUNT"].string_value == threads
        assert config.instance_group[0].count == 2


def test_what_waits_for_a_large_image_encoder_on_a_cpu_host_is_little(tmp_path: Path) -> None:
    """In Triton's queue, and so in what the gateway before it lets in."""
    for small, waiting, in_flight in ((True, 64, 64), (False, 8, 24)):
        folder = tmp_path / str(small)
        folder.mkdir()
        served = published(replace(DEFAULT, host="cpu", small_image_encoder=small), folder)
        assert encoder_queue(served) == waiting
        assert items_in_flight(served) == in_flight
    (served / "image_encoder" / "config.pbtxt").write_text('name: "image_encoder"')  # no limit at all
    assert items_in_flight(served) == 64


def test_compare_on_a_cpu_host_never_has_two_steps_to_run_at_once(tmp_path: Path) -> None:
    """Walk the published ensemble as its scheduler does: one ready step at a time from the inputs to the scores."""
    config = configs_of(published(replace(DEFAULT, host="cpu"), tmp_path))["compare"]
    known = {tensor.name for tensor in config.input}
    waiting = list(config.ensemble_scheduling.step)
    while waiting:
        ready = [step for step in waiting if set(step.input_map.values()) <= known]
        assert len(ready) == 1
        waiting.remove(ready[0])
        known |= set(ready[0].output_map.values())
    assert {tensor.name for tensor in config.output} <= known


def test_exporting_into_the_source_itself_leaves_git_clean(tmp_path: Path) -> None:
    """Publish over a copy of model_repository/ and compare what git tracks."""
    copy = tmp_path / "served"
    shutil.copytree(
        MODEL_REPOSITORY,
        copy,
        ignore=shutil.ignore_patterns("__pycache__", ".*_cache", "manifest.json", "model.pt", "tokenizer.json"),
    )
    before = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    published(DEFAULT, tmp_path)
    assert {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
