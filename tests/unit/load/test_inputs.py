"""Images and texts to send are what the spec says, the same each time, and no two alike."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from load.core.inputs import Spec, images, sentences


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_size_and_format(name: str) -> None:
    for data in images(Spec(224, 160, name, count=3)):  # type: ignore[arg-type]
        image = Image.open(io.BytesIO(data))
        assert image.format == name
        assert image.size == (224, 160)
        assert np.asarray(image.convert("L")).std() > 10, "no photograph"


def test_twelve_megapixels() -> None:
    (data,) = images(Spec(4000, 3000, count=1))
    assert Image.open(io.BytesIO(data)).size == (4000, 3000)


def test_the_seed_decides() -> None:
    made = images(Spec(64, 64, count=12))
    assert len(set(made)) == 12
    assert images(Spec(64, 64, count=12)) is made, "made once"
    images.cache_clear()
    assert images(Spec(64, 64, count=12)) == made
    assert images(Spec(64, 64, count=4)) == made[:4]
    assert not set(images(Spec(64, 64, count=12, seed=1))) & set(made)


def test_sentences() -> None:
    made = sentences(100)
    assert len(set(made)) == 100
    assert sentences(40) == made[:40]
    assert not set(sentences(100, seed=1)) & set(made)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"count": 0}, {"format": "GIF"}])
def test_impossible_specs(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Spec(**wrong)  # type: ignore[arg-type]


def test_what_sends_needs_neither_torch_nor_the_server() -> None:
    """A load generator's machine has the requirements of load/ and the client, no more."""
    code = (
        "import sys, load.core.clients_asyncio, load.core.workload, load.core.generator\n"
        "print([name for name in ('torch', 'tritonclip_server') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
