"""Seeded random weights that exercise every block of a model.

open_clip's and timm's initial values are made to be trained from, not to be served: at a layer scale of 1e-6 a
ConvNeXt block contributes nothing, all norms are the identity and all biases zero, so a broken block, a forgotten bias
or a wrong folding would not show. Here they are drawn at about the size that trained checkpoints have.
"""

import math

import torch
from torch import Tensor, nn

LAYER_SCALE = (0.1, 0.5)  # uniform; trained ConvNeXt and CLIP ViT gammas are of this order
NORM_SPREAD = 0.2
BIAS_SPREAD = 0.1
LOGIT_SCALE = math.log(100.0)  # where CLIP's training clamps it (Radford et al. 2021, section 2.5)


@torch.no_grad()
def draw_weights(model: nn.Module, seed: int) -> None:
    """Redraw, in place, what initialisation leaves inert: layer scales, norms, biases and the logit scale."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor, mean: float, spread: float) -> Tensor:
        return mean + spread * torch.randn(like.shape, generator=generator)

    for module in model.modules():
        norm = isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d | nn.BatchNorm1d)
        for name, parameter in module.named_parameters(recurse=False):
            if name == "gamma":
                low, high = LAYER_SCALE
                parameter.copy_(low + (high - low) * torch.rand(parameter.shape, generator=generator))
            elif norm and name == "weight":
                parameter.copy_(normal(parameter, 1.0, NORM_SPREAD))
            elif name in ("bias", "in_proj_bias"):
                parameter.copy_(normal(parameter, 0.0, BIAS_SPREAD))
            elif name == "logit_scale":
                parameter.fill_(LOGIT_SCALE)
        if (
            isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)
            and module.running_mean is not None
            and module.running_var is not None
        ):
            module.running_mean.copy_(normal(module.running_mean, 0.0, BIAS_SPREAD))
            module.running_var.copy_(normal(module.running_var, 1.0, NORM_SPREAD).abs())
