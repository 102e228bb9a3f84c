"""A model as a folder in open_clip's local-dir layout, which `open_clip` and `export` load like any other.

    open_clip_config.json, open_clip_model.safetensors
    tokenizer.json, tokenizer_config.json     where the tokenizer is one of the hub
    config.json                               where the text tower is one of the hub

So it needs nothing of the hub.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import save_file
from torch import Tensor

from tritonclip_server.export.checkpoint import Checkpoint
from tritonclip_server.export.variants import FOLDER_CONFIG

WEIGHTS = "open_clip_model.safetensors"
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode", "fill_color")


def model_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The open_clip_config.json of a checkpoint's architecture and preprocessing."""
    architecture: dict[str, Any] = open_clip.get_model_config(checkpoint.variant.source)
    if open_clip.get_pretrained_cfg(checkpoint.variant.source, checkpoint.variant.pretrained).get("quick_gelu"):
        architecture["quick_gelu"] = True  # which a tag says of its weights, and a folder can only say in its config
    transform = open_clip.get_model_preprocess_cfg(checkpoint.model)
    return {"model_cfg": architecture, "preprocess_cfg": {key: transform[key] for key in PREPROCESSING}}


def write_folder(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write config and fp32 weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / FOLDER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_text_files(folder: Path, checkpoint: Checkpoint) -> None:
    """Write what the text side of a checkpoint has from the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(checkpoint.tokenizer, HFTokenizer):
        checkpoint.tokenizer.save_pretrained(str(folder))
    if isinstance(tower := getattr(checkpoint.model, "text", None), HFTextEncoder):
        tower.config.save_pretrained(folder)
