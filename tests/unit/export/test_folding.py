"""Every folding leaves the module's function as it was: at most 1e-5 of difference in fp32."""

import copy
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock
from timm.layers.norm import LayerNorm, LayerNorm2d
from timm.models.convnext import ConvNeXtBlock, ConvNeXtStage
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tritonclip_server.export import folding
from tritonclip_server.export.checkpoint import Checkpoint, load_checkpoint
from tritonclip_server.export.encoders import ImageEncoder, TextEncoder
from tritonclip_server.export.random_weights import draw_weights
from tritonclip_server.export.variants import Variant

TOLERANCE = 1e-5


def largest_difference(before: Tensor, after: Tensor) -> float:
    return float((before - after).abs().max())


def drawn(module: nn.Module) -> Any:
    draw_weights(module, seed=3)
    return module.eval()


@torch.inference_mode()
def test_convnext_block_keeps_its_function_and_loses_its_layer_scale_and_affine() -> None:
    block = drawn(ConvNeXtBlock(32, ls_init_value=1e-6))
    inputs = torch.randn(2, 32, 9, 9)
    before = block(inputs)
    assert folding.fold_convnext_block(block) == 2
    assert block.gamma is None
    assert block.norm.weight is None
    assert largest_difference(before, block(inputs)) <= TOLERANCE


@torch.inference_mode()
def test_convnext_block_of_convolutions() -> None:
    block = drawn(ConvNeXtBlock(32, conv_mlp=True))
    inputs = torch.randn(2, 32, 9, 9)
    before = block(inputs)
    assert folding.fold_convnext_block(block) == 2
    assert largest_difference(before, block(inputs)) <= TOLERANCE


@torch.inference_mode()
def test_downsampling_keeps_its_function_at_odd_sizes_too() -> None:

    stage = drawn(ConvNeXtStage(16, 32, stride=2, depth=1, norm_layer=LayerNorm2d, norm_layer_cl=LayerNorm))
    inputs = torch.randn(2, 16, 11, 8)
    before = stage(inputs)
    assert folding.fold_convnext_downsample(stage) == 1
    assert largest_difference(before, stage(inputs)) <= TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize("layer_scale", [None, 0.1])
def test_attention_block_keeps_its_function(layer_scale: float | None) -> None:
    block = drawn(ResidualAttentionBlock(32, 4, ls_init_value=layer_scale))
    inputs = torch.randn(2, 7, 32)
    mask = torch.full((7, 7), float("-inf")).triu(1)
    before = block(inputs, attn_mask=mask)
    assert folding.fold_attention_block(block) == (2 if layer_scale is None else 4)
    assert largest_difference(before, block(inputs, attn_mask=mask)) <= TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
def test_pixel_scaling_moves_into_an_unpadded_convolution(bias: bool) -> None:
    conv = drawn(nn.Conv2d(3, 8, 4, stride=4, bias=bias))
    pixels = torch.randint(0, 256, (2, 3, 16, 16)).float()
    mean, std = (0.48, 0.45, 0.4), (0.26, 0.27, 0.28)
    scaled = (pixels / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    before = conv(scaled)
    assert folding.fold_pixel_scaling(conv, mean, std)
    assert largest_difference(before, conv(pixels)) <= TOLERANCE


def test_pixel_scaling_stays_out_of_a_padded_convolution() -> None:
    conv = nn.Conv2d(3, 8, 3, padding=1)
    before = conv.weight.clone()
    assert not folding.fold_pixel_scaling(conv, (0.5,) * 3, (0.5,) * 3)
    assert torch.equal(before, conv.weight)


@pytest.fixture(scope="module", params=["tiny-convnext", "tiny-vit-bias", "tiny-resnet"])
def checkpoint(request: pytest.FixtureRequest, architectures: None) -> Checkpoint:
    return load_checkpoint(Variant(request.param, "none"), random=True)


@torch.inference_mode()
def test_whole_image_tower(checkpoint: Checkpoint) -> None:
    settings = checkpoint.preprocessing
    pixels = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    encoders = [
        ImageEncoder(copy.deepcopy(checkpoint.model.visual), settings.mean, settings.std, torch.float32, fold).eval()
        for fold in (False, True)
    ]
    padded = checkpoint.variant.architecture == "tiny-resnet"
    assert [encoder.scales_pixels for encoder in encoders] == [True, padded]
    unfolded, folded = (encoder(pixels) for encoder in encoders)
    assert largest_difference(unfolded, folded) <= TOLERANCE


@torch.inference_mode()
def test_whole_text_tower(checkpoint: Checkpoint) -> None:
    tokens = checkpoint.tokenizer(["a photo of a cat", "", "one two three " * 60]).int()
    unfolded, folded = (
        TextEncoder(copy.deepcopy(checkpoint.model), torch.float32, fold).eval()(tokens) for fold in (False, True)
    )
    assert largest_difference(unfolded, folded) <= TOLERANCE


@torch.inference_mode()
def test_random_weights_exercise_every_block(architectures: None) -> None:
    """Silencing any one block of the image tower must show in the features; at timm's initial values it would not."""
    images = torch.rand(4, 3, 64, 64)
    model = load_checkpoint(Variant("tiny-convnext", "none"), random=True).model
    before = model.encode_image(images, normalize=True)
    blocks = [module for module in model.visual.modules() if isinstance(module, ConvNeXtBlock)]
    assert len(blocks) == 12
    for block in blocks:
        assert block.gamma is not None
        kept = block.gamma.clone()
        block.gamma.zero_()
        silenced = model.encode_image(images, normalize=True)
        block.gamma.copy_(kept)
        assert float((before * silenced).sum(dim=-1).max()) < 0.9999


def test_random_weights_are_seeded(architectures: None) -> None:
    first, second = (load_checkpoint(Variant("tiny-convnext", "none"), random=True) for _ in range(2))
    assert first.weights_digest() == second.weights_digest()
    plain = open_clip.create_model("tiny-convnext")
    assert first.model.state_dict().keys() == plain.state_dict().keys()


def test_the_pixel_scaling_is_folded_where_the_weights_lie() -> None:
    """On a GPU the model is moved there before it is folded; these tensors stand for such ones, with no GPU at hand."""
    with FakeTensorMode():
        conv = nn.Conv2d(3, 8, 4, 4, device="cuda")
        assert folding.fold_pixel_scaling(nn.Sequential(conv), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
        assert conv.bias is not None
        assert {conv.weight.device.type, conv.bias.device.type} == {"cuda"}
