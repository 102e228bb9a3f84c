"""The probe: an image and a sentence with their right answers, which every served repository carries in its manifest.

Whoever must tell a server that answers rightly from one that answers nonsense (the gateway's readiness check) sends
them and compares. The answers are eager open_clip's, in fp32, before folding and casting; half precision holds them
closely enough for a cosine.
"""

import base64
import io

import torch
from PIL import Image
from torch import Tensor

from tritonclip_server.export.checkpoint import Checkpoint
from tritonclip_server.export.verification import reference_of, sample_images, sample_sentences

PHOTO_SIZE = (96, 96)  # small, since every client reads the manifest; a real photograph all the same
JPEG_QUALITY = 85


def build_probe(checkpoint: Checkpoint, device: torch.device) -> dict[str, str]:
    """A small photograph, a sentence, and the features of both; bytes as base64, features as little-endian float16."""
    (photo,), (sentence,) = sample_images(1), sample_sentences(1)
    buffer = io.BytesIO()
    photo.resize(PHOTO_SIZE).save(buffer, "JPEG", quality=JPEG_QUALITY)
    reference = reference_of(checkpoint, [Image.open(buffer).convert("RGB")], [sentence], device)
    return {
        "image": _text(buffer.getvalue()),
        "text": sentence,
        "image_features": _text(_half(reference.image_features[0])),
        "text_features": _text(_half(reference.text_features[0])),
    }


def _half(features: Tensor) -> bytes:
    return features.half().numpy().astype("<f2").tobytes()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
