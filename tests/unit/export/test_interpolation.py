"""Mixtures of checkpoints: the weights between, and pairs between which there are none."""

from pathlib import Path

import pytest
import torch

from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.cli import main
from tritonclip_server.export.errors import BadMixture
from tritonclip_server.export.interpolation import mix
from tritonclip_server.export.variants import FileVariant, MixedVariant, Variant, resolve, resolve_mixture
from tritonclip_server.finetune.folder import model_config, write_folder

TINY = Variant("tiny-vit-bias", "none")
FIRST = {"a": torch.tensor([0.0, 2.0]), "steps": torch.tensor(3)}
SECOND = {"a": torch.tensor([1.0, 4.0]), "steps": torch.tensor(9)}


def test_weights_go_from_the_first_to_the_second() -> None:
    for alpha, expected in ((0, [0.0, 2.0]), (0.25, [0.25, 2.5]), (1, [1.0, 4.0])):
        mixed = mix(FIRST, SECOND, alpha)
        assert mixed["a"].tolist() == expected
        assert mixed["steps"] == 3
    assert mix(FIRST, SECOND, 0)["a"] is not FIRST["a"]


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_0_to_1_is_refused(alpha: float) -> None:
    with pytest.raises(BadMixture, match="it goes from 0"):
        mix(FIRST, SECOND, alpha)


def test_the_first_tensor_that_differs_is_named() -> None:
    with pytest.raises(BadMixture, match="only the second one has b"):
        mix(FIRST, {**SECOND, "b": torch.zeros(1), "c": torch.zeros(1)}, 0.5)
    with pytest.raises(BadMixture, match=r"a has the shapes \(2,\) and \(3,\)"):
        mix(FIRST, {**SECOND, "a": torch.zeros(3)}, 0.5)


def test_the_second_may_be_a_file_of_the_firsts_architecture(architectures: None, tmp_path: Path) -> None:
    tiny = Variant("tiny-convnext", "none")
    model = load_checkpoint(tiny, random=True).model
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    mixture = resolve_mixture("tiny-convnext/none", str(tmp_path / "weights.pt"), "0.5")
    assert isinstance(mixture.second, FileVariant)
    assert mixture.name == "tiny-convnext-none-weights-0.5"
    assert mixture.files() == [tmp_path / "weights.pt"]
    second = FileVariant("tiny-convnext", "none", tmp_path / "weights.pt")
    same = load_checkpoint(MixedVariant("tiny-convnext", "none", second, second, 0.5))
    assert same.weights_digest() == load_checkpoint(tiny, random=True).weights_digest()


def test_activations_without_weights_are_compared_too(architectures: None, tmp_path: Path) -> None:
    """With GELU and with QuickGELU a model has the same tensors, and nothing lies between them."""
    checkpoint = load_checkpoint(TINY, random=True)
    plain = model_config(checkpoint)
    quick = {**plain, "model_cfg": plain["model_cfg"] | {"quick_gelu": True}}
    for name, config in (("plain", plain), ("quick", quick)):
        write_folder(tmp_path / name, config, checkpoint.model.state_dict())
    mixture = resolve_mixture(str(tmp_path / "plain"), str(tmp_path / "quick"), "0.5")
    with pytest.raises(BadMixture, match="is GELU in one and QuickGELU in the other"):
        load_checkpoint(mixture)


def test_preprocessing_is_compared_too(architectures: None, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(TINY, random=True)
    config = model_config(checkpoint)
    other = {**config, "preprocess_cfg": config["preprocess_cfg"] | {"mean": [0.5, 0.5, 0.5]}}
    for name, written in (("one", config), ("other", other)):
        write_folder(tmp_path / name, written, checkpoint.model.state_dict())
    with pytest.raises(BadMixture, match=r"images as Preprocessing.*mean=\(0\.5, 0\.5, 0\.5\)"):
        load_checkpoint(resolve_mixture(str(tmp_path / "one"), str(tmp_path / "other"), "0.5"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--interpolate", "demo", "none", "1.5"], "alpha is 1.5"),  # before anything is looked for
        (["--interpolate", "demo", "demo", "half"], "alpha is 'half'"),
        (["--interpolate", "demo", "none", "0.5"], "no variant 'none'"),
        (["demo", "--interpolate", "demo", "demo", "0.5"], "leave demo out"),
    ],
)
def test_what_cannot_be_mixed_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--host", "cpu", "--into", str(tmp_path / "served")]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]
    assert len(errors) == 1
    assert words in errors[0]
    assert not (tmp_path / "served").exists()


def test_models_of_different_widths_are_refused_by_name(
    architectures: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_checkpoint(Variant("tiny-convnext", "none"), random=True).model.state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    second = FileVariant("tiny-convnext", "none", tmp_path / "weights.pt")
    demo = resolve("demo")
    with pytest.raises(BadMixture, match="positional_embedding has the shapes"):
        load_checkpoint(MixedVariant(demo.architecture, demo.pretrained, demo, second, 0.5))
