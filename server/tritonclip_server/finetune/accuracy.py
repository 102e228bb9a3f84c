"""Zero-shot accuracy of eager models on a labelled set, by open_clip's own classifier and evaluation transform."""

from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tritonclip.evaluation import Proportion
from tritonclip_server.export.label_sources import PLACE
from tritonclip_server.finetune.batches import Transform
from tritonclip_server.finetune.data import LabelledSet
from tritonclip_server.finetune.decoding import read_image
from tritonclip_server.finetune.precision import autocast
from tritonclip_server.finetune.processes import Processes

BATCH = 128


class Images(Dataset[tuple[Tensor, int]]):
    """A set's images [3, S, S] through a transform, with their classes."""

    def __init__(self, data: LabelledSet, transform: Transform) -> None:
        self.data, self.transform = data, transform

    def __len__(self) -> int:
        return len(self.data.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.data.images[index]
        return self.transform(read_image(image.path)), image.label


@dataclass(frozen=True)
class Exam:
    """A labelled set to score one model after another on."""

    data: LabelledSet
    templates: tuple[str, ...]
    loader: DataLoader[tuple[Tensor, int]]
    device: torch.device

    @classmethod
    def of(cls, data: LabelledSet, templates: tuple[str, ...], transform: Transform, processes: Processes) -> "Exam":
        """Decode with all workers, which stay for the next model."""
        images = Images(data, transform)
        loader = DataLoader(images, batch_size=BATCH, num_workers=processes.workers, persistent_workers=True)
        return cls(data, templates, loader, processes.device)

    @torch.inference_mode()
    def score(self, model: Any, tokenizer: Any) -> Proportion:
        """Top-1 of a model in eval mode, over all classes of the set."""
        prompts = [lambda label, template=template: template.replace(PLACE, label) for template in self.templates]
        right = 0
        with autocast(self.device):
            classifier = open_clip.build_zero_shot_classifier(
                model, tokenizer, self.data.classes, prompts, device=self.device
            )
            for images, labels in self.loader:
                features = model.encode_image(images.to(self.device), normalize=True)
                right += int(((features @ classifier).argmax(dim=1).cpu() == labels).sum())
        return Proportion(right, len(self.data.images))
