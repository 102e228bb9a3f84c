"""The served modules: they answer whatever they are given, and compute an item the same way in whatever company."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.model import CustomTextCLIP
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from tritonclip_server.export.attention import SelfAttention, flatten_attention
from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.encoders import Head, ImageEncoder, Similarity, TextEncoder
from tritonclip_server.export.tracing import trace
from tritonclip_server.export.variants import Variant

ARCHITECTURES = ("tiny-convnext", "tiny-vit-bias", "tiny-resnet")
VOCABULARY = 49_408
MULTIPLICATIONS = ("aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm")


def text_encoder(architecture: str, dtype: torch.dtype = torch.float32) -> TextEncoder:
    return TextEncoder(load_checkpoint(Variant(architecture, "none"), random=True).model, dtype).eval()


def random_tokens(count: int, encoder: TextEncoder) -> Tensor:
    """Ids of any tokens, from the first to the last, ended and padded as the tokenizer does it."""
    generator = torch.Generator().manual_seed(count)
    shape = (count, encoder.lengths[-1])
    tokens = torch.randint(0, VOCABULARY - 1, shape, generator=generator, dtype=torch.int32)
    tokens[:, 0], tokens[:, -1] = VOCABULARY - 2, VOCABULARY - 1
    return tokens


def traced(module: nn.Module, example: tuple[Tensor, ...], folder: Path) -> Path:
    trace(module, example, folder / "model.pt")
    return folder / "model.pt"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_known_tokens_have_the_very_features_that_no_clamp_would_give(architecture: str, architectures: None) -> None:
    encoder = text_encoder(architecture)
    tokens = random_tokens(5, encoder)
    tower: Any = encoder.tower
    x = tower.transformer(tower.token_embedding(tokens) + tower.positional_embedding, attn_mask=tower.attn_mask)
    expected = functional.normalize(tower.projection(tower._pool(tower.ln_final(x), tokens)), dim=-1)
    assert torch.equal(encoder(tokens), expected)


def texts_of_every_length(encoder: TextEncoder) -> Tensor:
    """A text for each place where one can end, in no order of their lengths."""
    context = encoder.lengths[-1]
    tokens = random_tokens(context - 1, encoder)
    for row, end in enumerate(torch.randperm(context - 1, generator=torch.Generator().manual_seed(0)) + 1):
        tokens[row, end] = VOCABULARY - 1
        tokens[row, end + 1 :] = 0
    return tokens


def text_encoder_of(**settings: Any) -> TextEncoder:
    """One with these settings of open_clip's text tower, and a context of 77 unless they say another."""
    torch.manual_seed(1)
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 32, "patch_size": 16}
    text = {"width": 32, "heads": 2, "layers": 2} | settings
    return TextEncoder(CustomTextCLIP(64, vision, text).eval(), torch.float32).eval()


@pytest.mark.parametrize(
    ("settings", "lengths"),
    [
        ({}, [16, 32, 77]),
        ({"pool_type": "eos", "eos_id": VOCABULARY - 1}, [16, 32, 77]),
        ({"context_length": 32}, [16, 32]),
        ({"context_length": 12}, [12]),
        ({"pool_type": "last"}, [77]),
        ({"pool_type": "first"}, [77]),
        ({"no_causal_mask": True}, [77]),
    ],
)
@torch.inference_mode()
def test_a_text_has_the_features_of_its_whole_context_whatever_its_length(
    settings: dict[str, Any], lengths: list[int], tmp_path: Path
) -> None:
    """Where a tower sees what comes behind a text, as SigLIP's does, padding is a part of it, and nothing is cut."""
    eager = text_encoder_of(**settings)
    assert eager.lengths == lengths
    tokens = texts_of_every_length(eager)
    whole = eager.tower(tokens)
    encoder: Any = torch.jit.load(traced(eager, (tokens[:2],), tmp_path))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(encoder(tokens), whole, atol=1e-6, rtol=0)
    for size in (1, 2, 5):
        alone = torch.cat([encoder(part) for part in torch.split(tokens, size)])
        torch.testing.assert_close(alone, whole, atol=1e-6, rtol=0)
    assert encoder(tokens[:0]).shape == (0, whole.shape[1])
    for group in range(len(lengths)):  # what a GPU does
        short = tokens[tokens.argmax(dim=-1) < lengths[group]]
        needed = torch.zeros(len(short), dtype=torch.long)
        needed[-1] = group
        torch.testing.assert_close(encoder.at_longest(short, needed), eager.tower(short), atol=1e-6, rtol=0)
    assert encoder.at_longest(tokens[:0], tokens[:0, 0]).shape == (0, whole.shape[1])


@torch.inference_mode()
def test_a_text_costs_by_its_own_length(tmp_path: Path) -> None:
    eager = text_encoder_of()
    tokens = random_tokens(6, eager)
    encoder: Any = torch.jit.load(traced(eager, (tokens[:2],), tmp_path))  # type: ignore[no-untyped-call]

    def operations(texts: Tensor) -> int:
        with profile(activities=[ProfilerActivity.CPU], with_flops=True) as recorded:
            encoder(texts)
        return sum(event.flops for event in recorded.key_averages())

    def ending(*ends: int) -> Tensor:
        texts = tokens[: len(ends)].clone()
        for text, end in zip(texts, ends, strict=True):
            text[end - 1], text[end:] = VOCABULARY - 1, 0
        return texts

    whole = operations(ending(77))
    for ends, places in (((2,), 16), ((16,), 16), ((17,), 32), ((32,), 32), ((33,), 77), ((9, 20, 50, 16), 141)):
        assert operations(ending(*ends)) / whole == pytest.approx(places / 77, rel=0.02), ends


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_an_unknown_token_makes_its_own_item_no_vector_and_fails_nothing(
    architecture: str, tmp_path: Path, architectures: None
) -> None:
    eager = text_encoder(architecture)
    tokens = random_tokens(4, eager)
    encoder: Any = torch.jit.load(traced(eager, (tokens[:2],), tmp_path))  # type: ignore[no-untyped-call]
    expected = encoder(tokens)
    for unknown in (-1, -(2**31), VOCABULARY, 2**31 - 1):
        spoilt = tokens.clone()
        spoilt[1, 5], spoilt[3, -1] = unknown, unknown
        features = encoder(spoilt)
        assert features[[1, 3]].isnan().all()
        # The others are then fewer at their number of tokens, and products of other shapes round otherwise.
        torch.testing.assert_close(features[[0, 2]], expected[[0, 2]], atol=1e-6, rtol=0)


@torch.inference_mode()
def test_scores_of_any_number_of_any_values_are_scores(tmp_path: Path) -> None:
    for bias in (None, -10.0):
        module: Any = torch.jit.load(traced(Similarity(100.0, bias), (torch.eye(2), torch.eye(2)), tmp_path))  # type: ignore[no-untyped-call]
        for images, texts in ((0, 0), (0, 3), (3, 0), (1, 1), (200, 3)):
            for scores in module(torch.randn(images, 2), torch.randn(texts, 2)):
                assert scores.shape == (images, texts)
        for value in (float("nan"), float("inf"), 3e38):
            cosine, logits, probabilities = module(torch.full((1, 2), value), torch.tensor([[1.0, 0.0]]))
            assert (cosine.shape, logits.shape, probabilities.shape) == ((1, 1),) * 3
    head: Any = torch.jit.load(traced(Head(torch.eye(3, 2), 100.0, None), (torch.eye(2),), tmp_path))  # type: ignore[no-untyped-call]
    for logits, probabilities in (head(torch.full((1, 2), float("nan"))), head(torch.full((1, 2), float("inf")))):
        assert not logits.isfinite().all()
        assert not probabilities.isfinite().all()


def blocks_of(tower: nn.Module) -> list[ResidualAttentionBlock]:
    return [module for module in tower.modules() if isinstance(module, ResidualAttentionBlock)]


@torch.inference_mode()
def test_attention_is_open_clips_with_a_mask_and_without(architectures: None) -> None:
    model = load_checkpoint(Variant("tiny-vit-bias", "none"), random=True).model
    generator = torch.Generator().manual_seed(1)
    for tower, mask in ((model.visual.transformer, None), (model.text.transformer, model.text.attn_mask)):
        length = 17 if mask is None else len(mask)
        x = torch.randn(3, length, tower.width, generator=generator)
        expected = tower(x, attn_mask=mask)
        blocks = blocks_of(tower)
        assert flatten_attention(tower) == len(blocks) > 0
        assert all(isinstance(block.attn, SelfAttention) for block in blocks)
        torch.testing.assert_close(tower(x, attn_mask=mask), expected)


def test_attention_of_another_make_is_left_as_it_is() -> None:
    cross = ResidualAttentionBlock(8, 2, is_cross_attention=True)
    separate = ResidualAttentionBlock(8, 2)
    separate.attn = nn.MultiheadAttention(8, 2, kdim=4, vdim=4, batch_first=True)
    biased = ResidualAttentionBlock(8, 2)
    biased.attn = nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)
    sequence_first = ResidualAttentionBlock(8, 2, batch_first=False)
    tower = nn.ModuleList([cross, separate, biased, sequence_first])
    before = [block.attn for block in blocks_of(tower)]
    assert flatten_attention(tower) == 0
    assert [block.attn for block in blocks_of(tower)] == before


def multiplications(module: Any, inputs: Tensor) -> Counter[str]:
    """How many matrix products of which kind a pass makes."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        module(inputs)
    counts = {event.key: event.count for event in recorded.key_averages()}
    return Counter({key: counts[key] for key in MULTIPLICATIONS if key in counts})


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tower", ["text", "image"])
@torch.inference_mode()
def test_batches_and_loaders_do_not_choose_how_matrices_are_multiplied(
    tower: str, precision: torch.dtype, tmp_path: Path, architectures: None
) -> None:
    """Otherwise an item's features would depend on its batch, and one of the ways is many times slower."""
    checkpoint = load_checkpoint(Variant("tiny-vit-bias", "none"), random=True)
    module: nn.Module
    if tower == "text":
        encoder = TextEncoder(checkpoint.model, precision)
        module, inputs = encoder, random_tokens(7, encoder)
    else:
        settings = checkpoint.preprocessing
        module = ImageEncoder(checkpoint.image_tower, settings.mean, settings.std, precision)
        inputs = torch.randint(0, 256, (7, 3, settings.image_size, settings.image_size), dtype=torch.uint8)
    path = str(traced(module, (inputs[:2],), tmp_path))
    frozen = torch.jit.freeze(torch.jit.load(path).eval())  # type: ignore[no-untyped-call]
    with torch.inference_mode(False):
        plain = torch.jit.load(path)  # type: ignore[no-untyped-call]
    inference: Any = torch.jit.load(path)  # type: ignore[no-untyped-call]
    found = [multiplications(loaded, inputs[:n]) for loaded in (plain, frozen, inference) for n in (1, 2, 7)]
    assert found[0]
    assert all(counts == found[0] for counts in found), found
