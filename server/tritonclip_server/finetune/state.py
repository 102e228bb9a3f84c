"""A run on disk: what it needs to go on as if nothing had happened, and what it must not be mixed up with.

Data order, augmentation and dropout follow from the seed and the step, so weights, the optimizer and the number of
steps are all there is to keep.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tritonclip_server.finetune.errors import OtherRun

STATE = "training-state.pt"


@dataclass(frozen=True)
class Run:
    """What identifies a run, and the file that keeps it. Values are JSON's kinds, so that loading runs no code."""

    file: Path
    identity: Mapping[str, Any]

    def save(self, steps: int, **parts: Any) -> None:
        """Keep so many steps and the state of each part, in one step: the old file is whole until the new one is."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial")
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"identity": dict(self.identity), "steps": steps, **states}, partial)
        partial.replace(self.file)

    def restore(self, **parts: Any) -> int:
        """Load what was kept into the parts; returns the steps that were done, 0 where there is nothing.

        Raises OtherRun where the file belongs to another run, naming what differs.
        """
        if not self.file.is_file():
            return 0
        saved = torch.load(self.file, map_location="cpu", weights_only=True)
        differing = [key for key, value in self.identity.items() if saved["identity"].get(key) != value]
        if differing:
            raise OtherRun(
                f"{self.file} belongs to another run, with other {', '.join(differing)}: "
                "give another --output, or remove the file to begin anew"
            )
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        return int(saved["steps"])
