"""Weights in: an eager fp32 open_clip model with everything its checkpoint says about preprocessing.

Loading is open_clip's own (hub, cache, formats, positional embeddings resized); this module turns its many ways to fail
into one message each, and adds the seeded random weights.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from tritonclip_server.export.errors import BadMixture, UnsupportedModel, WeightsUnavailable
from tritonclip_server.export.hugging_face import text_config as hugging_face_text
from tritonclip_server.export.interpolation import mix
from tritonclip_server.export.random_weights import draw_weights
from tritonclip_server.export.state_dicts import read_plainly
from tritonclip_server.export.tokenizer_source import load_tokenizer
from tritonclip_server.export.variants import (
    CHECKPOINT_SUFFIXES,
    FileVariant,
    HubVariant,
    LocalVariant,
    MixedVariant,
    Variant,
    model_config,
)

RANDOM_SEED = 20


@dataclass(frozen=True)
class Preprocessing:
    """open_clip's evaluation transform as data. `image_size` is pixels a side; mean and std are of 0..1."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    fill_color: int


@dataclass(frozen=True)
class Checkpoint:
    """An eager open_clip model in fp32 and eval mode, with its tokenizer and preprocessing."""

    variant: Variant
    model: Any  # open_clip's CLIP or CustomTextCLIP
    tokenizer: Any
    preprocessing: Preprocessing
    random_weights: bool

    @property
    def image_tower(self) -> nn.Module:
        """The part of the model that encodes images."""
        tower: nn.Module = self.model.visual
        return tower

    @property
    def image_parameters(self) -> int:
        """How many numbers the image tower has learnt."""
        return sum(parameter.numel() for parameter in self.image_tower.parameters())

    @property
    def embedding_width(self) -> int:
        """D, the length of a feature."""
        return int(model_config(self.variant)["embed_dim"])

    @property
    def logit_scale(self) -> float:
        """The factor from cosine to logit: exp of the trained parameter."""
        return float(self.model.logit_scale.exp())

    @property
    def logit_bias(self) -> float | None:
        """What is added to the logits, or None for a model trained without a bias."""
        bias = self.model.logit_bias
        return None if bias is None else float(bias)

    def weights_digest(self) -> str:
        """SHA-256 over names, shapes and values: the same for the same weights in whatever file format."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()


def load_checkpoint(
    variant: Variant,
    *,
    checkpoint: Path | None = None,
    random: bool = False,
    image_size: int | None = None,
    tokenizer: Path | None = None,
) -> Checkpoint:
    """Load a variant's weights from a file, from the hub, from where the variant says, or draw them at random.

    Its tokenizer comes from open_clip, from the hub, or from the folder `tokenizer`. Raises WeightsUnavailable or
    TokenizerUnavailable, naming what was tried and which option helps, UnsupportedModel, or BadMixture.
    """
    if isinstance(variant, MixedVariant):
        return _mixture(variant, image_size, tokenizer)
    if isinstance(variant, LocalVariant) and (random or checkpoint is not None):
        raise UnsupportedModel(
            f"{variant.name} is a folder with weights of its own: leave --random and --checkpoint out"
        )
    text_tokenizer = load_tokenizer(variant, tokenizer)  # before minutes of loading weights
    folders = [] if tokenizer is None else [tokenizer]
    folders += [variant.folder] if isinstance(variant, LocalVariant) else []
    hugging_face = hugging_face_text(model_config(variant), folders)
    tag = open_clip.get_pretrained_cfg(variant.source, variant.pretrained)
    transform = {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag}
    options: dict[str, Any] = {
        "force_image_size": image_size,
        "force_quick_gelu": bool(tag.get("quick_gelu", False)),
        "force_preprocess_cfg": transform,
        "pretrained_text": False,  # a text tower's own base weights would only be overwritten
    }
    if hugging_face is not None:
        options["text_cfg"] = hugging_face
    if random:
        model = _random_model(variant, options)
    elif checkpoint is not None:
        model = _from_file(variant, checkpoint, options)
    elif isinstance(variant, FileVariant):
        model = _from_file(variant, variant.file, options)
    elif isinstance(variant, LocalVariant | HubVariant):
        model = _as_laid_out(variant, options)
    else:
        model = _from_hub(variant, tag, options)
    if hugging_face is not None:  # open_clip has it from the tower, which takes more than a text has, or names none
        text: Any = model.text
        text.context_length = text_tokenizer.context_length
    return Checkpoint(
        variant=variant,
        model=model.eval().requires_grad_(False),
        tokenizer=text_tokenizer,
        preprocessing=_preprocessing(model),
        random_weights=random,
    )


def _mixture(variant: MixedVariant, image_size: int | None, tokenizer: Path | None) -> Checkpoint:
    first, second = (
        load_checkpoint(part, image_size=image_size, tokenizer=tokenizer) for part in (variant.first, variant.second)
    )
    weights = mix(first.model.state_dict(), second.model.state_dict(), variant.alpha)
    kinds = [{name: type(part).__name__ for name, part in side.model.named_modules()} for side in (first, second)]
    for name in kinds[0]:
        kind, other = kinds[0][name], kinds[1].get(name)
        if kind != other:  # QuickGELU and GELU, say, which have no weights to tell them by
            raise BadMixture(f"these checkpoints cannot be mixed: {name} is {kind} in one and {other} in the other")
    if first.preprocessing != second.preprocessing:
        raise BadMixture(
            f"these checkpoints cannot be mixed: one takes its images as {first.preprocessing}, "
            f"the other as {second.preprocessing}"
        )
    first.model.load_state_dict(weights)
    return replace(first, variant=variant)


def _create(variant: Variant, pretrained: str | None, options: dict[str, Any]) -> nn.Module:
    # open_clip reports every step and failure through the root logger as well; one message is enough.
    logging.disable(logging.ERROR)
    try:
        with read_plainly():
            model: nn.Module = open_clip.create_model(variant.source, pretrained=pretrained, **options)
    finally:
        logging.disable(logging.NOTSET)
    return model


def _random_model(variant: Variant, options: dict[str, Any]) -> nn.Module:
    state = torch.random.get_rng_state()
    torch.manual_seed(RANDOM_SEED)
    try:
        model = _create(variant, None, options)
    except Exception as error:  # a text tower from a package that is not installed, an image size that does not fit
        raise UnsupportedModel(f"{variant.architecture} cannot be built: {_first_lines(error)}") from error
    finally:
        torch.random.set_rng_state(state)
    draw_weights(model, RANDOM_SEED)
    return model


def _from_file(variant: Variant, path: Path, options: dict[str, Any]) -> nn.Module:
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise WeightsUnavailable(f"{path}: a checkpoint is a {', '.join(CHECKPOINT_SUFFIXES)} file")
    if not path.is_file():
        raise WeightsUnavailable(f"{path}: no such file")
    try:
        return _create(variant, str(path), options)
    except Exception as error:  # open_clip, torch and safetensors raise a dozen kinds here
        raise WeightsUnavailable(f"{path} does not load as {variant.architecture}: {_first_lines(error)}") from error


def _as_laid_out(variant: LocalVariant | HubVariant, options: dict[str, Any]) -> nn.Module:
    """From a folder, or a repository of the hub, with open_clip's configuration beside the weights."""
    try:
        return _create(variant, None, options | {"require_pretrained": True})
    except Exception as error:  # as in _from_file
        where = variant.folder if isinstance(variant, LocalVariant) else variant.source
        raise WeightsUnavailable(f"{where} does not load: {_first_lines(error)}") from error


def _from_hub(variant: Variant, tag: dict[str, Any], options: dict[str, Any]) -> nn.Module:
    if not tag:
        raise WeightsUnavailable(
            f"open_clip publishes no weights for {variant.name}; give --checkpoint FILE or --random"
        )
    try:
        return _create(variant, variant.pretrained, options)
    except Exception as error:
        source = (
            f"hub repository {tag['hf_hub'].rstrip('/')}" if tag.get("hf_hub") else tag.get("url", "open_clip's list")
        )
        raise WeightsUnavailable(
            f"the weights of {variant.name} could not be loaded from the {source} nor from the local hub cache "
            f"({_first_lines(error)}). Give --checkpoint FILE with your own copy ({', '.join(CHECKPOINT_SUFFIXES)}), "
            "point HF_HOME at a cache that holds them, or use --random to try the server without them"
        ) from error


def _first_lines(error: Exception, limit: int = 300) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[:limit] + " …"


def _preprocessing(model: nn.Module) -> Preprocessing:
    config = open_clip.get_model_preprocess_cfg(model)
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UnsupportedModel(f"its images are {height}x{width}; only square ones are served")
    if config.get("mode", "RGB") != "RGB":
        raise UnsupportedModel(f"open_clip preprocesses this model's images as {config['mode']}, not RGB")
    return Preprocessing(
        image_size=int(height),
        mean=_triple(config["mean"]),
        std=_triple(config["std"]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",  # as image_transform does
        resize_mode=config["resize_mode"],
        fill_color=int(config["fill_color"]),
    )


def _triple(values: float | Sequence[float]) -> tuple[float, ...]:
    return (float(values),) * 3 if isinstance(values, int | float) else tuple(float(value) for value in values)
