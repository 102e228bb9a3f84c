"""Batches for training: augmented images, each with a caption that a template makes of its class.

    step ──seed──> which images ──> template, crop ──open_clip's transform, tokenizer──> Batch

Everything random about an example follows from the seed, the epoch and its place in the data, so neither the number of
workers nor of processes nor an interruption changes what a step sees.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from tritonclip_server.export.label_sources import PLACE
from tritonclip_server.finetune.data import LabelledSet
from tritonclip_server.finetune.decoding import read_image
from tritonclip_server.finetune.processes import Processes
from tritonclip_server.finetune.recipe import Plan

Transform = Callable[[Image.Image], Tensor]
ORDER, EXAMPLE = 0, 1  # what a seed is for: no two generators may share one


@dataclass(frozen=True)
class Batch:
    """One process's share of a step: images [B, 3, S, S], normalised, and the tokens [B, L] of their captions."""

    images: Tensor
    tokens: Tensor


class Batches(Dataset[Batch]):
    """This process's share of every step of a run, by the step's number."""

    def __init__(
        self,
        data: LabelledSet,
        templates: tuple[str, ...],
        transform: Transform,
        tokenizer: Any,
        plan: Plan,
        processes: Processes,
    ) -> None:
        self.data, self.templates, self.transform, self.tokenizer = data, templates, transform, tokenizer
        self.plan, self.processes = plan, processes

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, step: int) -> Batch:
        epoch = step // self.plan.epoch_steps
        examples = [self._example(epoch, int(index)) for index in self.indices(step)]
        images, captions = zip(*examples, strict=True)
        return Batch(torch.stack(images), self.tokenizer(list(captions)))

    def indices(self, step: int) -> NDArray[np.int64]:
        """Which images are this process's in a step."""
        epoch, place = divmod(step, self.plan.epoch_steps)
        order = np.random.default_rng((self.plan.recipe.seed, ORDER, epoch)).permutation(len(self.data.images))
        share = self.plan.batch // self.processes.count
        first = place * self.plan.batch + self.processes.rank * share
        return order[first : first + share]

    def _example(self, epoch: int, index: int) -> tuple[Tensor, str]:
        rng = np.random.default_rng((self.plan.recipe.seed, EXAMPLE, epoch, index))
        image = self.data.images[index]
        template = self.templates[rng.integers(len(self.templates))]
        with torch.random.fork_rng(devices=[]):  # the transforms draw from torch's own generator
            torch.manual_seed(int(rng.integers(2**63)))
            pixels = self.transform(read_image(image.path))
        return pixels, template.replace(PLACE, self.data.classes[image.label])
