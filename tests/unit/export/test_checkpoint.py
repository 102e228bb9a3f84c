"""Weights from files of every kind, from a hub that does not answer, and drawn at random."""

import json
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.cli import main
from tritonclip_server.export.errors import WeightsUnavailable
from tritonclip_server.export.variants import Variant, resolve

TINY = Variant("tiny-convnext", "none")


@pytest.fixture(scope="module")
def weights(architectures: None) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(TINY, random=True).model.state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_the_same_weights_in_any_format_have_the_same_digest(
    suffix: str, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(weights, path)
    else:  # .pt as training writes it, .bin as the hub has it
        torch.save({"epoch": 3, "state_dict": weights} if suffix == ".pt" else weights, path)
    loaded = load_checkpoint(TINY, checkpoint=path)
    assert not loaded.random_weights
    assert loaded.weights_digest() == load_checkpoint(TINY, random=True).weights_digest()
    changed = dict(weights) | {"logit_scale": weights["logit_scale"] + 1}
    torch.save(changed, tmp_path / "changed.pt")
    assert load_checkpoint(TINY, checkpoint=tmp_path / "changed.pt").weights_digest() != loaded.weights_digest()


def compiled_towers(name: str) -> str:
    """Of a model whose towers were compiled one by one."""
    head, dot, rest = name.partition(".")
    return f"{head}._orig_mod.{rest}" if dot else name


@pytest.mark.parametrize(
    ("rename", "wrap"),
    [
        ("_orig_mod.{}".format, None),  # torch.compile
        ("module.{}".format, None),  # data parallelism
        ("module._orig_mod.{}".format, "state_dict"),
        ("_orig_mod.module.{}".format, "model"),
        ("model._orig_mod.{}".format, "state_dict"),  # a trainer's module around the compiled one
        ("net.clip.{}".format, "model_state_dict"),
        (compiled_towers, "state_dict"),
        (str, "model"),
    ],
)
def test_names_that_training_left_are_understood(
    rename: Callable[[str], str], wrap: str | None, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    renamed = {rename(name): tensor for name, tensor in weights.items()}
    torch.save({"epoch": 3, wrap: renamed, "optimizer": {}} if wrap else renamed, tmp_path / "weights.pt")
    loaded = load_checkpoint(TINY, checkpoint=tmp_path / "weights.pt")
    assert loaded.weights_digest() == load_checkpoint(TINY, random=True).weights_digest()


def test_so_they_are_in_a_folder(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    config = {"model_cfg": open_clip.get_model_config("tiny-convnext"), "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    save_file(
        {f"_orig_mod.{name}": tensor for name, tensor in weights.items()}, tmp_path / "open_clip_model.safetensors"
    )
    loaded = load_checkpoint(resolve(str(tmp_path)))
    assert loaded.weights_digest() == load_checkpoint(TINY, random=True).weights_digest()


def test_preprocessing_follows_the_tag_even_with_a_checkpoint_file(tmp_path: Path) -> None:
    """A file says nothing of mean, std and QuickGELU: they come from the tag it is loaded as."""
    variant = resolve("ViT-S-32-alt/none")
    model = open_clip.create_model("ViT-S-32-alt")
    torch.save(model.state_dict(), tmp_path / "vit.pt")
    loaded = load_checkpoint(variant, checkpoint=tmp_path / "vit.pt")
    assert loaded.preprocessing.image_size == 224
    assert loaded.preprocessing.mean == open_clip.OPENAI_DATASET_MEAN


def test_quick_gelu_follows_the_tag() -> None:
    from open_clip.transformer import QuickGELU

    quick = load_checkpoint(resolve("ViT-B-32/openai"), random=True).model
    plain = load_checkpoint(resolve("ViT-B-32/laion2b_s34b_b79k"), random=True).model
    assert any(isinstance(module, QuickGELU) for module in quick.modules())
    assert not any(isinstance(module, QuickGELU) for module in plain.modules())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.pt", None, "no such file"),
        ("weights.zip", b"", r"a checkpoint is a \.safetensors, \.pt, \.bin file"),
        ("garbage.pt", b"this is no checkpoint", "does not load as tiny-convnext"),
        ("garbage.safetensors", b"this is no checkpoint", "does not load as tiny-convnext"),
    ],
)
def test_unusable_files_are_named_with_the_reason(
    name: str, content: bytes | None, words: str, tmp_path: Path, architectures: None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsUnavailable, match=words) as caught:
        load_checkpoint(TINY, checkpoint=tmp_path / name)
    assert name in str(caught.value)


def test_weights_of_another_architecture_are_refused(tmp_path: Path, architectures: None) -> None:
    torch.save({}, tmp_path / "empty.pt")
    with pytest.raises(WeightsUnavailable, match=r"empty.pt does not load as tiny-convnext: \w+"):
        load_checkpoint(TINY, checkpoint=tmp_path / "empty.pt")
    torch.save(load_checkpoint(Variant("tiny-resnet", "none"), random=True).model.state_dict(), tmp_path / "resnet.pt")
    with pytest.raises(WeightsUnavailable, match="does not load as tiny-convnext"):
        load_checkpoint(TINY, checkpoint=tmp_path / "resnet.pt")


def test_an_unreachable_hub_is_one_message_with_the_ways_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(
        huggingface_hub.constants, "HF_HUB_OFFLINE", True
    )  # what an unreachable hub amounts to, at once
    assert main(["convnext_base_w-laion2b_s13b_b82k_augreg", "--into", str(tmp_path / "served")]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "rror" in line]
    assert len(errors) == 1
    for words in ("laion/CLIP-convnext_base_w-laion2B-s13B-b82K-augreg", "--checkpoint FILE", "HF_HOME", "--random"):
        assert words in errors[0]
    assert not (tmp_path / "served").exists()
