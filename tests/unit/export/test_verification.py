"""The reference that artifacts are compared with: computing it leaves the model as the encoders take it over."""

from typing import Any

import pytest
import torch
from torch import nn

from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.encoders import ImageEncoder, TextEncoder
from tritonclip_server.export.variants import Variant
from tritonclip_server.export.verification import reference_of, sample_images, sample_sentences


def test_moving_the_model_to_another_device_leaves_weights_that_can_be_taken_over(
    architectures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load_checkpoint(Variant("tiny-convnext", "none"), random=True)

    def move(device: torch.device) -> Any:
        """As a move to a GPU does it: every parameter is made anew."""
        for module in checkpoint.model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad))
        return checkpoint.model

    monkeypatch.setattr(checkpoint.model, "to", move)
    reference_of(checkpoint, sample_images(1), sample_sentences(1), torch.device("cpu"))
    assert not any(parameter.is_inference() for parameter in checkpoint.model.parameters())
    settings = checkpoint.preprocessing
    ImageEncoder(checkpoint.image_tower, settings.mean, settings.std, torch.float32)
    TextEncoder(checkpoint.model, torch.float32)
