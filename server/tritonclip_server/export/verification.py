"""Nothing is published that does not answer as eager open_clip does, on real photographs and sentences.

The reference is the fp32 eager model as open_clip loaded it, before folding and casting. The candidates are the files
that will be served, loaded back from disk and run at several batch sizes, since a trace can bake one in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from open_clip.transform import image_transform
from PIL import Image
from torch import Tensor, nn

from tritonclip.protocol import qualified
from tritonclip_server.export.checkpoint import Checkpoint, Preprocessing
from tritonclip_server.export.errors import ArtifactDrift, UnsupportedModel
from tritonclip_server.resources import SAMPLES

BATCH_SIZES: tuple[int, ...] = (1, 2, 7, 16)
MIN_COSINE = {"fp32": 0.99999, "bf16": 0.999, "fp16": 0.999}


@dataclass(frozen=True)
class Reference:
    """Real inputs and what eager open_clip makes of them: pixels [B, 3, S, S], tokens [B, L], features [B, D]."""

    pixels: Tensor
    tokens: Tensor
    image_features: Tensor
    text_features: Tensor
    logits: Tensor


@torch.inference_mode()
def compute_reference(checkpoint: Checkpoint, device: torch.device) -> Reference:
    """Run the eager fp32 model on the sample photographs and sentences; UnsupportedModel where it cannot."""
    count = max(BATCH_SIZES)
    return reference_of(checkpoint, sample_images(count), sample_texts(count), device)


@torch.inference_mode()
def reference_of(
    checkpoint: Checkpoint, images: Sequence[Image.Image], sentences: Sequence[str], device: torch.device
) -> Reference:
    """The same for any images and sentences."""
    settings = checkpoint.preprocessing
    pixels = torch.stack([_pixels(image, settings) for image in images])
    tokens = checkpoint.tokenizer(list(sentences))
    with torch.inference_mode(False):  # what is made in it stays bound to it, and the encoders take these weights over
        model = checkpoint.model.to(device)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (settings.mean, settings.std))
    normalised = ((pixels.float() / 255 - mean) / std).to(device)
    try:
        image_features = model.encode_image(normalised, normalize=True)
        text_features = model.encode_text(tokens.to(device), normalize=True)
    except RuntimeError as error:  # an image size that the tower cannot take, too little memory
        raise UnsupportedModel(f"eager open_clip fails on the sample inputs: {error}") from error
    logits = checkpoint.logit_scale * image_features @ text_features.T + (checkpoint.logit_bias or 0.0)
    return Reference(pixels, tokens.int(), image_features.cpu(), text_features.cpu(), logits.cpu())


@torch.inference_mode()
def verify(
    folder: Path, reference: Reference, precision: str, device: torch.device, name: str | None = None
) -> dict[str, float]:
    """Check the three artifacts under `folder` against the reference; returns the smallest cosine of each encoder.

    `name` is the one that it goes by, if any. Raises ArtifactDrift naming the model, the batch size and the cosine,
    when one falls below MIN_COSINE.
    """
    lowest = {}
    for model, inputs, expected in (
        ("image_encoder", reference.pixels, reference.image_features),
        ("text_encoder", reference.tokens, reference.text_features),
    ):
        encoder, lowest[model] = _load(folder / qualified(model, name), device), 1.0
        for size in BATCH_SIZES:
            features = encoder(inputs[:size].to(device)).cpu()
            cosine = _lowest_cosine(features, expected[:size])
            if not cosine >= MIN_COSINE[precision]:  # also catches NaN
                raise ArtifactDrift(
                    f"{model} in {precision} at batch {size} reaches cosine {cosine:.6f} to eager open_clip, "
                    f"below {MIN_COSINE[precision]}"
                )
            lowest[model] = min(lowest[model], cosine)
    _verify_similarity(_load(folder / qualified("similarity", name), device), reference, device)
    return lowest


def sample_images(count: int) -> list[Image.Image]:
    """`count` different RGB images: the sample photographs, then their mirror images, then those upside down."""
    photos = [Image.open(path).convert("RGB") for path in sorted((SAMPLES / "photos").glob("*.jpg"))]
    flips = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180)
    images = photos + [photo.transpose(flip) for flip in flips for photo in photos]
    return images[:count]


def sample_sentences(count: int) -> list[str]:
    """The first `count` sample sentences."""
    return (SAMPLES / "sentences.txt").read_text(encoding="utf-8").splitlines()[:count]


def sample_texts(count: int) -> list[str]:
    """`count` different texts, in turn short, of middle length, and as long as a context: a sentence and its followers.

    Text encoders compute each at a length of its own (`export.encoders.LENGTHS`).
    """
    sentences = sample_sentences(count)
    followed = [sentences[index:] + sentences[:index] for index in range(count)]
    return [", ".join(several[: (1, 2, 9)[index % 3]]) for index, several in enumerate(followed)]


def _pixels(image: Image.Image, settings: Preprocessing) -> Tensor:
    """uint8 [3, S, S] by open_clip's own transform, with a mean of 0 and a std of 1 in place of the model's."""
    transform = image_transform(
        settings.image_size,
        is_train=False,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        resize_mode=settings.resize_mode,
        interpolation=settings.interpolation,
        fill_color=settings.fill_color,
    )
    scaled: Tensor = transform(image)
    return (scaled * 255).round().to(torch.uint8)


def _load(folder: Path, device: torch.device) -> nn.Module:
    return torch.jit.load(str(folder / "1" / "model.pt"), map_location=device)  # type: ignore[no-any-return, no-untyped-call]


def _lowest_cosine(features: Tensor, expected: Tensor) -> float:
    return float((features.double() * expected.double()).sum(dim=-1).min())


def _verify_similarity(module: nn.Module, reference: Reference, device: torch.device) -> None:
    """Scores of the very reference features must equal open_clip's logits up to rounding."""
    _, logits, probabilities = module(reference.image_features.to(device), reference.text_features.to(device))
    difference = float((logits.cpu() - reference.logits).abs().max())
    if not difference <= 1e-3 or not bool(torch.isfinite(probabilities).all()):
        raise ArtifactDrift(f"similarity differs from eager open_clip by {difference:.6f} in logits")
