"""Whole exports of small models: what is published, what refuses, what the artifacts are."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.serving import publish
from tritonclip_server.export import encoders, pipeline
from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.cli import main
from tritonclip_server.export.encoders import ImageEncoder, TextTower
from tritonclip_server.export.errors import ArtifactDrift, ExportError, UnsupportedModel
from tritonclip_server.export.pipeline import Request
from tritonclip_server.export.tracing import device_constants, resolve_device, resolve_precision, trace
from tritonclip_server.export.variants import Variant, resolve
from tritonclip_server.repository.manifest import read_manifest

ARTIFACTS = ("image_encoder", "text_encoder", "similarity")
TINY = Variant("tiny-convnext", "none")


def load(repository: Path, model: str, device: str = "cpu") -> Any:
    path = repository / model / "1" / "model.pt"
    return torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module", params=["tiny-convnext", "tiny-vit-bias", "tiny-resnet"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(request.param, tmp_path_factory.mktemp("export") / request.param)


def test_artifacts_create_nothing_on_a_fixed_device(repository: Path) -> None:
    for name in ARTIFACTS:
        assert device_constants(load(repository, name)) == set()


def test_a_graph_that_creates_tensors_on_a_device_is_refused(tmp_path: Path, architectures: None) -> None:
    """open_clip's own pooling creates a range on the device it runs on: traced, that device stays."""

    class Eager(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor) -> Any:
            return self.model.encode_text(tokens)

    checkpoint = load_checkpoint(TINY, random=True)
    with pytest.raises(UnsupportedModel, match=r"fixed device \(cpu\)"):
        trace(Eager(checkpoint.model), (checkpoint.tokenizer(["a cat"]),), tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_forward_arguments_are_the_tensor_names(repository: Path) -> None:
    names = {name: [a.name for a in load(repository, name).forward.schema.arguments][1:] for name in ARTIFACTS}
    assert names == {
        "image_encoder": ["pixels"],
        "text_encoder": ["tokens"],
        "similarity": ["image_features", "text_features"],
    }


@torch.inference_mode()
def test_similarity_has_the_checkpoints_scale_and_bias(repository: Path) -> None:
    checkpoint = load_checkpoint(Variant(repository.name, "none"), random=True)
    images, texts = nn.functional.normalize(torch.randn(3, 64)), nn.functional.normalize(torch.randn(5, 64))
    cosine, logits, probabilities = load(repository, "similarity")(images, texts)
    expected = checkpoint.model.logit_scale.exp() * images @ texts.T
    if repository.name == "tiny-vit-bias":
        expected = expected + checkpoint.model.logit_bias
        torch.testing.assert_close(probabilities, expected.sigmoid(), atol=1e-5, rtol=1e-4)
    else:
        torch.testing.assert_close(probabilities, expected.softmax(dim=-1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(cosine, images @ texts.T)
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)


def test_the_manifest_says_what_is_deployed(repository: Path) -> None:
    manifest = read_manifest(repository)
    assert manifest is not None
    checkpoint = load_checkpoint(Variant(repository.name, "none"), random=True)
    assert manifest["variant"] == f"{repository.name}-none"
    assert manifest["random_weights"] is True
    assert manifest["weights_sha256"] == checkpoint.weights_digest()
    assert manifest["precision"] == "fp32"
    assert manifest["image_size"] == 64
    assert manifest["mean"] == list(checkpoint.preprocessing.mean)
    assert manifest["std"] == list(checkpoint.preprocessing.std)
    assert manifest["embedding_width"] == 64
    assert manifest["logit_scale"] == pytest.approx(100)
    assert manifest["logit_bias"] == (-10 if repository.name == "tiny-vit-bias" else None)
    assert manifest["max_batch_size"] == 64
    assert manifest["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert len(manifest["tokenizer_sha256"]) == 64
    assert len(manifest["fingerprint"]) == 16


def test_the_fingerprint_changes_with_what_changes_vectors_and_with_nothing_else(tmp_path: Path) -> None:
    def fingerprint(folder: str, **changes: Any) -> str:
        options: dict[str, Any] = {"variant": TINY, "host": "cpu", "precision": "fp32", "random": True} | changes
        manifest = pipeline.export(Request(**options), tmp_path / folder, report=lambda step: None)
        return str(manifest["fingerprint"])

    first = fingerprint("first")
    assert fingerprint("again") == fingerprint("gpu", host="gpu") == first
    other = [fingerprint("bf16", precision="bf16"), fingerprint("96px", image_size=96)]
    assert len({first, *other}) == 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_are_verified_too(precision: str, tmp_path: Path) -> None:
    repository = publish("tiny-convnext", tmp_path / "served", precision=precision)
    dtypes = {parameter.dtype for parameter in load(repository, "image_encoder").parameters()}
    assert dtypes == {torch.bfloat16 if precision == "bf16" else torch.float16}


def test_drift_refuses_and_leaves_the_old_artifact_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = publish("tiny-convnext", tmp_path / "served")
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}

    class Forgetful(ImageEncoder):
        """Loses one layer's bias, as a wrong folding would."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            with torch.no_grad():
                self.tower.trunk.stages[2].blocks[1].mlp.fc2.bias.zero_()

    monkeypatch.setattr(pipeline, "ImageEncoder", Forgetful)
    with pytest.raises(ArtifactDrift, match=r"image_encoder in fp32 at batch 1 reaches cosine 0\.\d+"):
        publish("tiny-convnext", tmp_path / "served")
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def test_a_batch_size_baked_into_the_trace_is_drift_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fixed(TextTower):
        """Pools with the batch size it was traced at."""

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return super().forward(tokens)[torch.zeros(len(tokens), dtype=torch.long)]

    monkeypatch.setattr(encoders, "TextTower", Fixed)
    with pytest.raises((ArtifactDrift, UnsupportedModel)):
        publish("tiny-convnext", tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_if_changed_exports_once(tmp_path: Path, capsys: pytest.CaptureFixture[str], architectures: None) -> None:
    command = ["tiny-convnext/none", "--random", "--host", "cpu", "--precision", "fp32", "--if-changed"]
    into = ["--into", str(tmp_path / "served")]
    assert main([*command, *into]) == 0
    captured = capsys.readouterr()
    assert "RANDOM WEIGHTS" in captured.err
    assert "published tiny-convnext-none (fp32, cpu host)" in captured.out
    for step in ("weights", "reference", "trace: image_encoder", "trace: text_encoder", "verify", "publish"):
        assert step in captured.err
    assert main([*command, *into]) == 0
    assert "up to date" in capsys.readouterr().out
    assert main([*command, *into, "--image-size", "96"]) == 0
    assert "published" in capsys.readouterr().out
    assert json.loads((tmp_path / "served" / "manifest.json").read_text())["image_size"] == 96


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["roberta-ViT-B-32/laion2b_s12b_b32k"], "tokenizer_config.json and, for its text tower, config.json"),
        (["tiny-siglip/none"], "tokenizer of tiny-siglip"),
        (["tiny-vit-bias/none", "--image-size", "7"], "eager open_clip fails on the sample inputs"),
        (["tiny-convnext/none", "--into", "/proc/nowhere/served"], "/proc/nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], architectures: None
) -> None:
    assert main(["--random", "--host", "cpu", "--into", str(tmp_path / "served"), *arguments]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert words in errors[0]
    assert not (tmp_path / "served").exists()


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(ExportError, match="no CUDA device"):
        resolve_device("cuda")


def test_automatic_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_precision("auto", "gpu") == "fp16"
    for flags, expected in (({"avx512_bf16"}, "bf16"), ({"amx_bf16"}, "bf16"), ({"avx2"}, "fp32")):
        monkeypatch.setattr("tritonclip_server.export.tracing._cpu_flags", lambda flags=flags: flags)
        assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("fp32", "gpu") == "fp32"


def test_random_and_resized_exports_never_take_the_place_of_the_real_one() -> None:
    variant = resolve("convnext_base_w-laion2b_s13b_b82k_augreg")
    names = {
        Request(variant, "cpu").folder_name,
        Request(variant, "cpu", random=True).folder_name,
        Request(variant, "cpu", image_size=384).folder_name,
    }
    assert names == {variant.name, f"{variant.name}-random", f"{variant.name}-384px"}
