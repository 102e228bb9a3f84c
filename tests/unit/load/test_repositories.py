"""The pipeline's costs: what stands in for the encoder, and whose CPU time is counted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from load.capacity.repositories import FreeEncoder, cpu_seconds, with_free_encoder


@pytest.mark.parametrize("size", [64, 256, 100])
def test_the_free_encoder_tells_images_apart(size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)
    features = FreeEncoder(size, 32)(pixels)
    assert features.shape == (2, 32)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2))
    assert float(features[0] @ features[1]) < 0.9
    torch.testing.assert_close(FreeEncoder(size, 32)(pixels[1:]), features[1:])  # whatever its batch


def test_the_copy_has_another_encoder_and_the_original_keeps_its_own(tmp_path: Path) -> None:
    manifest = json.dumps({"image_size": 16, "embedding_width": 4, "probe": {}, "manifest_sha256": "its own"})
    artifact = tmp_path / "served" / "image_encoder" / "1" / "model.pt"
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(b"weights")
    (tmp_path / "served" / "manifest.json").write_text(manifest)
    with with_free_encoder(tmp_path / "served") as copy:
        encoder = torch.jit.load(str(copy / "image_encoder" / "1" / "model.pt"))  # type: ignore[no-untyped-call]
        assert encoder(torch.zeros(3, 3, 16, 16, dtype=torch.uint8)).shape == (3, 4)
        changed = json.loads((copy / "manifest.json").read_text())
        assert "probe" not in changed
        assert len(changed["manifest_sha256"]) == 64, "or the launcher would refuse the copy"
    assert not copy.exists()
    assert artifact.read_bytes() == b"weights"
    assert (tmp_path / "served" / "manifest.json").read_text() == manifest


STUB = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
TRITON = f"""
import subprocess, sys
stubs = [
    subprocess.Popen([sys.executable, "-c", {STUB!r}, name, "last"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for name in ("image_encoder_0_0", "image_encoder_0_1", "text_gate_0_0")
]
for stub in stubs:
    stub.stdout.readline()
print(flush=True)
input()
for stub in stubs:
    stub.communicate(b"\\n")
"""


def test_cpu_time_goes_by_model_and_instances_add_up() -> None:
    """On processes called as Triton calls its stubs, of which each has worked for 0.2 s and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", TRITON], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as triton:
        assert triton.stdout is not None
        triton.stdout.readline()
        used = cpu_seconds(triton.pid)
        triton.communicate("\n")
    assert set(used) == {"tritonserver", "image_encoder", "text_gate"}
    assert used["image_encoder"] >= 0.38  # of both; the kernel counts in hundredths
    assert 0.19 <= used["text_gate"] < used["image_encoder"]
