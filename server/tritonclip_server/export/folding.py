"""Exact rewrites of a tower's weights that leave its function as it is and take work out of every forward pass.

Each `fold_*` changes the module in place and returns how many places it folded. They must run in fp32, before the
precision is lowered: folded weights are rounded once, not twice. The algebra, with * element-wise:

    layer scale      s*(W h + b)              =  (s*W) h + s*b
    norm affine      W (g*n + c) + b          =  (W*g) n + (W c + b)
    pixel scaling    W ((p/255 - m)/d) + b    =  (W/(255 d)) p + (b - sum(W m/d))
                     only without zero padding: a padded border means p = 255 m there, not p = 0
"""

from collections.abc import Sequence
from typing import TypeGuard

import torch
from open_clip.transformer import LayerScale, ResidualAttentionBlock
from timm.models.convnext import ConvNeXtBlock, ConvNeXtStage
from torch import Tensor, nn

PIXEL_MAX = 255.0


def fold_tower(tower: nn.Module) -> int:
    """Fold every layer scale and LayerNorm affine of a tower that a linear layer can absorb; returns how many."""
    folded = 0
    for module in list(tower.modules()):
        if isinstance(module, ConvNeXtBlock):
            folded += fold_convnext_block(module)
        elif isinstance(module, ConvNeXtStage):
            folded += fold_convnext_downsample(module)
        elif isinstance(module, ResidualAttentionBlock):
            folded += fold_attention_block(module)
    return folded


@torch.no_grad()
def fold_convnext_block(block: ConvNeXtBlock) -> int:
    """Fold a ConvNeXt block's layer scale into its last linear layer and its norm's affine into the first one."""
    folded = 0
    first, last = getattr(block.mlp, "fc1", None), getattr(block.mlp, "fc2", None)
    if block.gamma is not None and isinstance(last, nn.Linear | nn.Conv2d):
        _scale_outputs(last, block.gamma)
        block.gamma = None
        folded += 1
    if isinstance(first, nn.Linear | nn.Conv2d):
        folded += _fold_norm(block.norm, first)
    return folded


@torch.no_grad()
def fold_convnext_downsample(stage: ConvNeXtStage) -> int:
    """Fold the norm in front of a stage's downsampling convolution into it (no padding, so borders stay exact)."""
    if not isinstance(stage.downsample, nn.Sequential):
        return 0
    norm, conv = stage.downsample[0], stage.downsample[1]
    return _fold_norm(norm, conv) if isinstance(conv, nn.Conv2d) and is_unpadded(conv) else 0


@torch.no_grad()
def fold_attention_block(block: ResidualAttentionBlock) -> int:
    """Fold a transformer block's two norms into the projections after them and its layer scales into those before."""
    folded = 0
    if isinstance(block.ls_1, LayerScale):
        _scale_outputs(block.attn.out_proj, block.ls_1.gamma)
        block.ls_1 = nn.Identity()
        folded += 1
    if isinstance(block.ls_2, LayerScale):
        _scale_outputs(block.mlp.c_proj, block.ls_2.gamma)
        block.ls_2 = nn.Identity()
        folded += 1
    folded += _fold_norm(block.ln_2, block.mlp.c_fc)
    self_attention = not hasattr(block, "ln_1_kv") and block.attn.in_proj_weight is not None
    if self_attention and block.attn.in_proj_bias is not None and _has_affine(block.ln_1):
        weight, bias = _absorb_affine(block.attn.in_proj_weight, block.attn.in_proj_bias, block.ln_1)
        block.attn.in_proj_weight, block.attn.in_proj_bias = nn.Parameter(weight), nn.Parameter(bias)
        _drop_affine(block.ln_1)
        folded += 1
    return folded


def first_convolution(tower: nn.Module) -> nn.Conv2d | None:
    """The convolution that reads the RGB pixels, or None where the tower has none."""
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            return module if module.in_channels == 3 else None
    return None


def is_unpadded(conv: nn.Conv2d) -> bool:
    """Whether the convolution reads no invented border pixels."""
    return conv.padding == "valid" or conv.padding in ((0, 0), 0)


@torch.no_grad()
def fold_pixel_scaling(tower: nn.Module, mean: Sequence[float], std: Sequence[float]) -> bool:
    """Fold `(pixels / 255 - mean) / std` into the tower's first convolution, so that it reads 0..255 directly.

    Returns False, and changes nothing, where that is not exact: a padded first convolution, or none.
    """
    conv = first_convolution(tower)
    if conv is None or not is_unpadded(conv) or conv.groups != 1:
        return False
    weight = conv.weight.double()
    means, stds = (weight.new_tensor(values).view(1, 3, 1, 1) for values in (mean, std))  # on the weights' device
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.double()
    conv.bias = nn.Parameter((bias - (weight * means / stds).sum(dim=(1, 2, 3))).float())
    conv.weight = nn.Parameter((weight / (PIXEL_MAX * stds)).float())
    return True


def _scale_outputs(layer: nn.Linear | nn.Conv2d, scale: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1)))
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias * scale)


def _has_affine(norm: nn.Module) -> TypeGuard[nn.LayerNorm]:
    return isinstance(norm, nn.LayerNorm) and norm.weight is not None


def _fold_norm(norm: nn.Module, layer: nn.Linear | nn.Conv2d) -> int:
    if not _has_affine(norm) or layer.bias is None:
        return 0
    weight, bias = _absorb_affine(layer.weight, layer.bias, norm)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    _drop_affine(norm)
    return 1


def _absorb_affine(weight: Tensor, bias: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """The weight [out, in, …] and bias [out] of a layer that reads `norm` without its affine; in double, then fp32."""
    gain = norm.weight.double().view(1, -1, *[1] * (weight.ndim - 2))
    absorbed = weight.double() * gain
    if norm.bias is not None:
        shift = norm.bias.double().view(1, -1, *[1] * (weight.ndim - 2))
        bias = bias.double() + (weight.double() * shift).flatten(1).sum(dim=1)
    return absorbed.float(), bias.float()


def _drop_affine(norm: nn.Module) -> None:
    norm.register_parameter("weight", None)
    norm.register_parameter("bias", None)
