"""What open_clip itself makes of files and sentences: the reference of every parity test."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transform import image_transform
from PIL import Image

from tritonclip_server.export.checkpoint import Checkpoint

Features = NDArray[np.float32]
PHOTOS = sorted((Path(__file__).resolve().parents[1] / "samples" / "photos").glob("*.jpg"))


@torch.inference_mode()
def image_features(checkpoint: Checkpoint, images: Sequence[Image.Image]) -> Features:
    """float32 [N, D] by open_clip's transform and eager encoder, one image at a time."""
    settings = checkpoint.preprocessing
    transform = image_transform(
        settings.image_size,
        is_train=False,
        mean=settings.mean,
        std=settings.std,
        resize_mode=settings.resize_mode,
        interpolation=settings.interpolation,
        fill_color=settings.fill_color,
    )
    features = [checkpoint.model.encode_image(transform(image)[None], normalize=True)[0] for image in images]
    return np.stack([feature.numpy() for feature in features])


@torch.inference_mode()
def text_features(checkpoint: Checkpoint, texts: Sequence[str]) -> Features:
    """float32 [N, D] by open_clip's tokenizer and eager encoder, one text at a time."""
    features = [checkpoint.model.encode_text(checkpoint.tokenizer([text]), normalize=True)[0] for text in texts]
    return np.stack([feature.numpy() for feature in features])


def photographs() -> list[Image.Image]:
    """The sample photographs, decoded."""
    return [Image.open(path).convert("RGB") for path in PHOTOS]


def cosines(first: Features, second: Features) -> NDArray[np.float64]:
    """float64 [N]: the cosine of each pair of rows."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / norms)
