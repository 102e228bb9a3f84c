"""How good the model is, on scenes from seeds that training never drew: eager open_clip, with its own transform.

Zero-shot accuracy is over all colour and shape pairs; scenes are drawn as the test data sets are, held-out pairs in
proportion. Retrieval is among scenes whose captions are all distinct.
"""

from collections.abc import Callable, Sequence
from typing import Any

import open_clip
import torch
from open_clip.transform import image_transform_v2
from PIL import Image
from torch import Tensor

from examples.demo_model.captions import full_phrase
from examples.demo_model.dataset import CLASSES, class_name, draw_scenes, scene_image
from examples.demo_model.scenes import SIZES, Scene

SEED = 1_000_003  # training's generators are seeded with pairs, so none of them draws what this one does
TEMPLATE = "a photo of a {}"
RETRIEVAL_SCENES = 200


def measure(model: Any, scenes: int = 2000, seed: int = SEED) -> dict[str, Any]:
    """Top-1 accuracies and recalls at 1, as shares from 0 to 1, with what they are taken over."""
    tested = draw_scenes(seed, scenes)
    hits = zero_shot_hits(model, tested)
    accuracy = {"all": _mean(hits)}
    accuracy |= {size: _mean(hits, [s.size == size for s in tested]) for size in SIZES}
    accuracy["held-out pairs"] = _mean(hits, [s.is_held_out for s in tested])
    accuracy["trained pairs"] = _mean(hits, [not s.is_held_out for s in tested])
    text_to_image, image_to_text = retrieval(model, draw_scenes(seed + 1, RETRIEVAL_SCENES, distinct=True))
    return {
        "seed": seed,
        "scenes": scenes,
        "classes": len(CLASSES),
        "template": TEMPLATE,
        "zero_shot_top1": {name: round(value, 4) for name, value in accuracy.items()},
        "held_out_scenes": sum(s.is_held_out for s in tested),
        "retrieval_scenes": RETRIEVAL_SCENES,
        "recall_at_1": {"caption to image": text_to_image, "image to caption": image_to_text},
    }


def zero_shot_hits(model: Any, scenes: Sequence[Scene]) -> list[bool]:
    """For each scene whether the model names its colour and shape."""
    texts = encode_texts(model, [TEMPLATE.format(name) for name in CLASSES])
    best = (encode_images(model, scenes) @ texts.T).argmax(dim=1)
    return [CLASSES[int(index)] == class_name(scene) for index, scene in zip(best, scenes, strict=True)]


def retrieval(model: Any, scenes: Sequence[Scene]) -> tuple[float, float]:
    """Recall at 1 from caption to image and from image to caption."""
    captions = encode_texts(model, [TEMPLATE.format(full_phrase(scene)) for scene in scenes])
    scores = captions @ encode_images(model, scenes).T
    right = torch.arange(len(scenes))
    return tuple((s.argmax(dim=1) == right).float().mean().item() for s in (scores, scores.T))  # type: ignore[return-value]


def encode_images(model: Any, scenes: Sequence[Scene]) -> Tensor:
    """fp32 [N, D]."""
    return encode_pictures(model, [scene_image(scene, number) for number, scene in enumerate(scenes)])


@torch.inference_mode()
def encode_pictures(model: Any, pictures: Sequence[Image.Image], block: int = 250) -> Tensor:
    """fp32 [N, D]."""
    transform: Callable[[Any], Tensor] = image_transform_v2(
        open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)), is_train=False
    )
    pixels = [transform(picture) for picture in pictures]
    blocks = [torch.stack(pixels[start : start + block]) for start in range(0, len(pixels), block)]
    return torch.cat([model.encode_image(part, normalize=True) for part in blocks])


@torch.inference_mode()
def encode_texts(model: Any, texts: Sequence[str]) -> Tensor:
    """fp32 [N, D]."""
    features: Tensor = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(list(texts)), normalize=True)
    return features


def _mean(hits: Sequence[bool], chosen: Sequence[bool] | None = None) -> float:
    kept = [hit for hit, keep in zip(hits, chosen or [True] * len(hits), strict=True) if keep]
    return sum(kept) / len(kept)
