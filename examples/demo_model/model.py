"""The demonstration model: open_clip's CLIP with a ConvNeXt tower, small enough to lie in the repository.

Its folder is laid out as open_clip's `local-dir:` reads it: open_clip_config.json and open_clip_model.safetensors.
"""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from timm.models.convnext import ConvNeXtBlock

FOLDER = Path(__file__).resolve().with_name("demo")
CONFIG_NAME, WEIGHTS_NAME = "open_clip_config.json", "open_clip_model.safetensors"


def read_config(folder: Path = FOLDER) -> dict[str, Any]:
    """The folder's open_clip_config.json: `model_cfg` and `preprocess_cfg`."""
    config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    return config


def new_model(config: dict[str, Any]) -> Any:
    """An untrained open_clip CLIP of this architecture, in train mode."""
    model = open_clip.CLIP(**config["model_cfg"])
    for module in model.modules():
        if isinstance(module, ConvNeXtBlock) and module.gamma is not None:
            # timm starts from 1e-6, made for 300 epochs of ImageNet; a short training never gets its blocks going.
            torch.nn.init.ones_(module.gamma)
    return model


def save_weights(model: Any, folder: Path) -> Path:
    """Write the weights in fp16 safetensors; returns the file."""
    path = folder / WEIGHTS_NAME
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def load_model(folder: Path = FOLDER) -> Any:
    """The trained model in fp32 and eval mode, loaded by open_clip itself."""
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return model.eval().requires_grad_(False)
