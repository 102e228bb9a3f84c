"""What is trained: an open_clip model with some of its layers frozen, and the loss of a step.

    images, captions ──parts──> features of this process ──gather──> features of the step ──open_clip's loss──> a number

A contrastive loss needs all features of a batch at once, so gradients of parts cannot simply be added up. In parts, a
forward pass keeps no activations but the features. Those of one part at a time are computed again when its gradient is
due (torch.utils.checkpoint, which also draws the same random numbers again). The gradient is that of the whole batch.
"""

from typing import Any

import torch
from open_clip.loss import ClipLoss, SigLipLoss, gather_features
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from tritonclip_server.finetune.errors import BadRecipe
from tritonclip_server.finetune.processes import Processes

Features = tuple[Tensor, Tensor, Tensor, Tensor | None]


class Network(nn.Module):
    """An open_clip model as a function from a batch to what its loss takes."""

    def __init__(self, model: Any, parts: int, *, compiled: bool) -> None:
        super().__init__()
        self.model, self.parts = model, parts
        self._encode = torch.compile(self._features) if compiled else self._features

    def forward(self, images: Tensor, tokens: Tensor) -> Features:
        """images [B, 3, S, S], tokens [B, L]. Returns unit features [B, D] of both, the logits' scale and bias."""
        if self.parts == 1:
            image_features, text_features = self._encode(images, tokens)
        else:
            pairs = zip(images.chunk(self.parts), tokens.chunk(self.parts), strict=True)
            encoded = [checkpoint(self._encode, *pair, use_reentrant=False) for pair in pairs]
            image_features, text_features = (torch.cat(column) for column in zip(*encoded, strict=True))
        return image_features, text_features, self.model.logit_scale.exp(), self.model.logit_bias

    def train(self, mode: bool = True) -> "Network":
        """Batch norms keep the statistics they came with: a batch's would depend on how it is shared out."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def _features(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.encode_image(images, normalize=True), self.model.encode_text(tokens, normalize=True)


class Loss(nn.Module):
    """open_clip's loss of a whole step: the sigmoid one for a model with a bias, else the softmax one.

    With several processes each computes it of all features, gathered with their gradients. Those add up on the way
    back, and DistributedDataParallel's mean over the processes then is the gradient of one loss.

    Images of one class count as each other's negatives, as in FLYP (docs/fine-tuning.md has what that costs).
    """

    def __init__(self, model: Any, processes: Processes) -> None:
        super().__init__()
        self.processes = processes
        self.loss = ClipLoss() if model.logit_bias is None else SigLipLoss()

    def forward(self, image_features: Tensor, text_features: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        """Features [B, D] of this process. Returns the loss of all processes' pairs."""
        if self.processes.count > 1:
            image_features, text_features = gather_features(
                image_features,
                text_features,
                gather_with_grad=True,
                rank=self.processes.rank,
                world_size=self.processes.count,
            )
        loss: Tensor = self.loss(image_features, text_features, scale, bias)
        return loss


def unfreeze(model: Any, image_layers: int | None, text_layers: int | None) -> None:
    """Let layers learn: the last so many groups of each tower as open_clip groups them, None for all.

    Raises BadRecipe for a tower that open_clip freezes only as a whole, or where nothing is left to learn.
    """
    model.requires_grad_(True)
    try:
        if image_layers is not None:
            model.lock_image_tower(unlocked_groups=image_layers)
        if text_layers is not None:
            model.lock_text_tower(unlocked_layers=text_layers)
    except (AssertionError, AttributeError, KeyError, NotImplementedError) as error:
        raise BadRecipe(f"open_clip cannot freeze these layers of this model: {error}") from error
    if not any(parameter.requires_grad for parameter in model.parameters() if parameter.ndim > 0):
        raise BadRecipe("--image-layers 0 and --text-layers 0 freeze the whole model: nothing is left to learn")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """What AdamW is given: no decay for gains, biases and the logit scale, as open_clip trains."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in learning if parameter.ndim < 2], "weight_decay": 0.0},
        {"params": [parameter for parameter in learning if parameter.ndim >= 2], "weight_decay": weight_decay},
    ]
