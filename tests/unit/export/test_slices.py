"""Large batches in slices: as many images as the process keeps memory for, and the features of the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from tritonclip_server.export import slices
from tritonclip_server.export.slices import InSlices, images_in_a_slice
from tritonclip_server.export.tracing import trace


class Tower(nn.Module):
    """Makes 16 values of each pixel, then features."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.projection = nn.Conv2d(3, 16, 1), nn.Linear(16, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.projection(self.wide(pixels.float()).mean((2, 3)))
        return features


def random_pixels(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)


@torch.inference_mode()
def test_a_batch_is_taken_in_slices_and_answered_in_order(tmp_path: Path) -> None:
    tower = Tower()
    trace(InSlices(tower, 3), (random_pixels(2),), tmp_path / "model.pt")
    encoder: Any = torch.jit.freeze(torch.jit.load(tmp_path / "model.pt").eval())  # type: ignore[no-untyped-call]
    for count, passes in ((1, 1), (3, 1), (4, 2), (6, 2), (8, 3)):
        pixels = random_pixels(count)
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as recorded:
            features = encoder(pixels)
        assert sum(event.count for event in recorded.key_averages() if event.key == "aten::_convolution") == passes
        torch.testing.assert_close(features, tower(pixels))
    assert encoder(random_pixels(0)).shape == (0, 4)


def test_a_slice_is_what_the_widest_layer_leaves_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tower, widest = Tower(), 16 * 8 * 8 * 4  # bytes an image
    for room, most in ((5 * widest, 5), (5 * widest - 1, 4), (widest // 2, 1)):
        monkeypatch.setattr(slices, "KEPT", room)
        assert images_in_a_slice(tower, random_pixels(2)) == most
    assert not any(module._forward_hooks for module in tower.modules())
