"""What a step computes: the same in parts as whole, open_clip's own losses, frozen layers that stay as they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor, nn

from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.variants import resolve
from tritonclip_server.finetune.errors import BadRecipe
from tritonclip_server.finetune.network import Loss, Network, parameter_groups, unfreeze
from tritonclip_server.finetune.processes import Processes

ALONE = Processes(0, 1, torch.device("cpu"))
Folder = Callable[[str], Path]


def load(folder: Path, image_layers: int | None = None, text_layers: int | None = None) -> Any:
    model = load_checkpoint(resolve(str(folder))).model
    unfreeze(model, image_layers, text_layers)
    return model


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.zeros(8, 77, dtype=torch.long)
    tokens[:, :4] = torch.randint(1, 49406, (8, 4), generator=generator)
    tokens[:, 4] = 49407
    return torch.randn(8, 3, 64, 64, generator=generator), tokens


def gradients(folder: Path, parts: int) -> dict[str, Tensor]:
    model = load(folder)
    images, tokens = batch()
    network = Network(model, parts, compiled=False).train()
    Loss(model, ALONE)(*network(images, tokens[:, : model.context_length])).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("architecture", ["tiny-convnext", "tiny-resnet"])
def test_parts_have_the_gradient_of_the_whole(tiny: Folder, architecture: str) -> None:
    whole, parts = gradients(tiny(architecture), 1), gradients(tiny(architecture), 4)
    assert whole["logit_scale"].abs() > 0
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-5 * largest, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("architecture", "loss"), [("tiny-convnext", ClipLoss), ("tiny-vit-bias", SigLipLoss)])
def test_the_loss_is_open_clips_for_the_model(tiny: Folder, architecture: str, loss: type[nn.Module]) -> None:
    model = load(tiny(architecture))
    images, tokens = batch()
    with torch.inference_mode():
        features = Network(model, 1, compiled=False)(images, tokens[:, : model.context_length])
        expected = [model.encode_image(images, normalize=True)]
        expected.append(model.encode_text(tokens[:, : model.context_length], normalize=True))
        scale = (model.logit_scale.exp(), *(() if model.logit_bias is None else (model.logit_bias,)))
        torch.testing.assert_close(Loss(model, ALONE)(*features), loss()(*expected, *scale))


def test_all_layers_learn_unless_told_otherwise(tiny: Folder) -> None:
    assert all(parameter.requires_grad for parameter in load(tiny("tiny-convnext")).parameters())


def test_layers_are_frozen_by_depth(tiny: Folder) -> None:
    model = load(tiny("tiny-convnext"), image_layers=1, text_layers=2)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {"logit_scale", "text_projection", "transformer.resblocks.1.ln_1.weight"} <= learning
    assert "visual.head.proj.weight" in learning
    assert (
        not {"token_embedding.weight", "transformer.resblocks.0.ln_1.weight", "visual.trunk.stem.0.weight"} & learning
    )
    more = load(tiny("tiny-convnext"), image_layers=3)
    assert sum(p.requires_grad for p in more.visual.parameters()) > sum(
        p.requires_grad for p in model.visual.parameters()
    )


def test_what_open_clip_cannot_freeze_is_refused(tiny: Folder) -> None:
    with pytest.raises(BadRecipe, match="partial locking"):
        load(tiny("tiny-resnet"), image_layers=1)


def test_a_model_that_is_frozen_whole_is_refused(tiny: Folder) -> None:
    with pytest.raises(BadRecipe, match="nothing is left to learn"):
        load(tiny("tiny-vit-bias"), image_layers=0, text_layers=0)


def test_gains_biases_and_the_scale_do_not_decay(tiny: Folder) -> None:
    model = load(tiny("tiny-convnext"))
    plain, decaying = parameter_groups(model, 0.1)
    assert (plain["weight_decay"], decaying["weight_decay"]) == (0.0, 0.1)
    assert any(parameter is model.logit_scale for parameter in plain["params"])
    assert any(parameter is model.text_projection for parameter in decaying["params"])
    assert len(plain["params"]) + len(decaying["params"]) == len(list(model.parameters()))
