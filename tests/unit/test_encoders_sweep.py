"""Bare encoders by batch size: what is timed, on a small model and for moments only."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.sweep.encoders import WAYS, Timing, Way, make_inputs, time_encoder, to_markdown
from tritonclip_server.export.tracing import trace

PIXELS = 'name: "image_encoder" input [ { name: "pixels" data_type: TYPE_UINT8 dims: [ 3, 8, 8 ] } ]'
TOKENS = 'name: "text_encoder" input [ { name: "tokens" data_type: TYPE_INT32 dims: [ 5 ] } ]'


class Encoder(nn.Module):
    """An image encoder that costs nothing, of layers within layers, as real ones are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.layers(pixels.float())
        return features


def publish(folder: Path) -> Path:
    (folder / "1").mkdir()
    (folder / "config.pbtxt").write_text(PIXELS)
    trace(Encoder(), (torch.zeros(2, 3, 8, 8, dtype=torch.uint8),), folder / "1" / "model.pt")
    return folder


def test_inputs_are_pixels_or_ids_of_the_vocabulary(tmp_path: Path) -> None:
    config = tmp_path / "config.pbtxt"
    config.write_text(PIXELS)
    pixels = make_inputs(tmp_path, {}, 4)
    assert (pixels.shape, pixels.dtype) == ((4, 3, 8, 8), torch.uint8)
    assert int(pixels.max()) > 200
    config.write_text(TOKENS)
    tokens = make_inputs(tmp_path, {"tower.token_embedding.weight": torch.zeros(11, 2)}, 64)
    assert (tokens.shape, tokens.dtype) == ((64, 5), torch.int32)
    assert (int(tokens[:, :-1].min()), int(tokens[:, :-1].max())) == (0, 9)
    assert tokens[:, -1].eq(10).all()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_way_times_each_batch(tmp_path: Path, way: Way) -> None:
    timings = time_encoder(publish(tmp_path), way, (1, 4), seconds=0.0)
    assert [timing.batch for timing in timings] == [1, 4]
    assert all(len(timing.first_ms) == 3 and timing.whole_ms > 0 and timing.device_ms > 0 for timing in timings)


def test_the_table_has_a_row_for_each_batch_and_a_column_for_each_way() -> None:
    found = {"image_encoder": {"libtorch": [Timing(2, (90.0, 5.0, 4.0), 4.0, 3.5)], "stand-in": [Timing(2, (), 8, 7)]}}
    assert "| 2 | (90, 5, 4) 4.00, 3.50; 500/s | () 8.00, 7.00; 250/s |" in to_markdown(found).splitlines()
