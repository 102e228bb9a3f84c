"""Contrastive training of the demonstration model on scenes drawn as it goes, resumable at any checkpoint.

    step ──seed──> scenes ──render──> images ─┐
                      └──captions──> tokens ────┴──> image and text features ──> MatchingClipLoss ──> AdamW

Batch number i depends on the seed and i alone, so a resumed run sees what an uninterrupted one would have seen.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from examples.demo_model.captions import caption_batch
from examples.demo_model.scenes import draw_scene, render

CHECKPOINT_STEPS = 500
MAX_LOGIT_SCALE = math.log(100.0)  # Radford et al. 2021, section 2.5
BETAS = (0.9, 0.98)  # ibid., table 18, for ViT


@dataclass(frozen=True)
class Recipe:
    """What decides the outcome of a training, beside the architecture."""

    steps: int = 2500
    batch: int = 128
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 0.05
    curriculum: float = 0.3  # share of the steps over which large shapes alone give way to all sizes
    seed: int = 2

    def large_share(self, step: int) -> float:
        """How many scenes of a batch are large by decree: a small shape teaches nothing before a large one has."""
        return max(0.0, 1 - step / (self.curriculum * self.steps))


class MatchingClipLoss(ClipLoss):  # type: ignore[misc]
    """open_clip's contrastive loss with soft targets: all pairs of a batch with the same caption match.

    `groups` [B] says which caption belongs to each image. Rows of the target are uniform over the matching columns;
    where all captions are distinct it is the identity, and the loss is open_clip's own.
    """

    groups: Tensor

    def get_ground_truth(self, device: torch.device, num_logits: int) -> Tensor:  # noqa: ARG002 - open_clip's own
        """Targets [B, B] as probabilities, the same for both directions since matching is symmetric."""
        matches = (self.groups[:, None] == self.groups[None, :]).float().to(device)
        return matches / matches.sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class Batch:
    """Images [B, 3, S, S] in 0..1, tokens [captions, L], and for each image the index of its caption."""

    images: Tensor
    tokens: Tensor
    groups: Tensor


class Batches(Dataset[Batch]):
    """All batches of a training by their number, none of them with a held-out pair."""

    def __init__(self, recipe: Recipe, image_size: int, tokenizer: Any) -> None:
        self.recipe, self.image_size, self.tokenizer = recipe, image_size, tokenizer

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.recipe.seed, step))
        large_share = self.recipe.large_share(step)
        scenes = [draw_scene(rng, held_out=False, large_share=large_share) for _ in range(self.recipe.batch)]
        captions, groups = caption_batch(scenes, rng)
        images = np.stack([render(scene, self.image_size, self.image_size) for scene in scenes])
        return Batch(
            torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255),
            self.tokenizer(captions),
            torch.tensor(groups),
        )

    def __len__(self) -> int:
        return self.recipe.steps


def train(model: Any, config: dict[str, Any], recipe: Recipe, state: Path, checkpoint: Callable[[int], None]) -> None:
    """Train in place up to the recipe's last step, from `state` where it exists.

    `checkpoint` is called with the number of steps done, every CHECKPOINT_STEPS of them and at the end, after `state`
    was written. Raises ValueError where `state` belongs to another recipe or architecture.
    """
    tokenizer = open_clip.get_tokenizer("ViT-B-32")  # open_clip's own vocabulary, which all its CLIPs share
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe), lr=recipe.learning_rate, betas=BETAS)
    identity = {"recipe": asdict(recipe), "config": config}
    done = _resume(model, optimizer, state, identity)
    model.train().to(memory_format=torch.channels_last)
    loss_function = MatchingClipLoss()
    preprocess = config["preprocess_cfg"]
    mean, std = (torch.tensor(preprocess[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    batches = Batches(recipe, config["model_cfg"]["vision_cfg"]["image_size"], tokenizer)
    # One process draws ahead. Each item is a whole batch already.
    loader = DataLoader(batches, sampler=range(done, recipe.steps), batch_size=None, num_workers=1, prefetch_factor=4)
    with tqdm(loader, initial=done, total=recipe.steps, unit="step", smoothing=0.05) as bar:
        for batch in bar:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, done)
            images = ((batch.images - mean) / std).contiguous(memory_format=torch.channels_last)
            image_features = model.encode_image(images, normalize=True)
            text_features = model.encode_text(batch.tokens, normalize=True)[batch.groups]
            loss_function.groups = batch.groups
            loss = loss_function(image_features, text_features, model.logit_scale.exp())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
            done += 1
            bar.set_postfix(loss=f"{loss.item():.3f}", scale=f"{model.logit_scale.exp().item():.0f}")
            if done % CHECKPOINT_STEPS == 0 or done == recipe.steps:
                _save(model, optimizer, done, identity, state)
                checkpoint(done)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def _parameter_groups(model: Any, recipe: Recipe) -> list[dict[str, Any]]:
    """Weight decay for matrices alone: none for gains, biases and the logit scale."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _save(model: Any, optimizer: torch.optim.Optimizer, done: int, identity: dict[str, Any], state: Path) -> None:
    state.parent.mkdir(parents=True, exist_ok=True)
    partial = state.with_suffix(".partial")
    torch.save({"done": done, "model": model.state_dict(), "optimizer": optimizer.state_dict(), **identity}, partial)
    partial.replace(state)


def _resume(model: Any, optimizer: torch.optim.Optimizer, state: Path, identity: dict[str, Any]) -> int:
    """Steps done already."""
    if not state.is_file():
        return 0
    saved = torch.load(state, weights_only=True)
    if any(saved[key] != value for key, value in identity.items()):
        raise ValueError(f"{state} was made by another recipe or architecture; remove it, or give --restart")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["done"])
