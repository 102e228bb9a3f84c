"""Weights between two checkpoints of one model (WiSE-FT, Wortsman et al. 2022, section 3): (1 - alpha) a + alpha b."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tritonclip_server.export.errors import BadMixture

Weights = Mapping[str, Tensor]


def check_alpha(alpha: float) -> None:
    """Raise BadMixture for an alpha outside 0..1."""
    if not 0 <= alpha <= 1:  # nor is NaN inside
        raise BadMixture(f"alpha is {alpha:g}; it goes from 0, the first checkpoint, to 1, the second")


def mix(first: Weights, second: Weights, alpha: float) -> dict[str, Tensor]:
    """The weights at `alpha` of the way from the first to the second. Whole numbers (counters) are the first's.

    Raises BadMixture for an alpha outside 0..1, and where names or shapes differ, with the first that does.
    """
    check_alpha(alpha)
    only = sorted(first.keys() ^ second.keys())
    if only:
        having = "first" if only[0] in first else "second"
        raise BadMixture(f"these checkpoints cannot be mixed: only the {having} one has {only[0]}")
    for name, tensor in first.items():
        if tensor.shape != second[name].shape:
            shapes = f"{tuple(tensor.shape)} and {tuple(second[name].shape)}"
            raise BadMixture(f"these checkpoints cannot be mixed: {name} has the shapes {shapes}")
    return {name: _between(tensor, second[name], alpha) for name, tensor in first.items()}


def _between(first: Tensor, second: Tensor, alpha: float) -> Tensor:
    if not first.is_floating_point() or alpha == 0:
        return first.clone()
    if alpha == 1:
        return second.clone()
    return torch.lerp(first, second.to(first), alpha)
