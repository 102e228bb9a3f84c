"""image_preprocess: JPEGs decoded by simplejpeg against Pillow's decoding, and the compiled resize without a cache."""

import io
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from tests.modules import MODELS, REPOSITORY, load_module
from tests.unit.test_preprocess import encode, pixels

FOLDER = MODELS / "image_preprocess" / "1"
decode = load_module(FOLDER / "decode.py")
LIMIT = 10**8


def photo(width: int = 90, height: int = 60) -> Image.Image:
    with Image.open(REPOSITORY / "samples" / "photos" / "coffee.jpg") as image:
        return image.resize((width, height))


def decoded_by_pillow(data: bytes, mode: str = "RGB") -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


@pytest.mark.parametrize("size", [(90, 60), (91, 61), (17, 33), (1, 1), (8, 200)])
@pytest.mark.parametrize(
    "options",
    [
        *({"subsampling": kind, "quality": 80} for kind in ("4:4:4", "4:2:2", "4:2:0")),
        {"progressive": True},
        {"progressive": True, "subsampling": "4:4:4"},
        {"keep_rgb": True},
        {"quality": 5},
        {"restart_marker_blocks": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_simplejpeg_gives_pillows_pixels(size: tuple[int, int], options: dict[str, Any], mode: str) -> None:
    data = encode(photo(*size).convert(mode), "JPEG", **options)
    row = decode._decode_jpeg(decode.open_image(data, LIMIT), data)
    assert row is not None, "Pillow decoded it"
    channels = row.view(np.uint8).reshape(size[1], size[0], 4)[..., :3]
    np.testing.assert_array_equal(channels, decoded_by_pillow(data))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("size", [(1600, 1200), (1601, 1199)])
def test_simplejpeg_reduces_as_pillow_reduces(size: tuple[int, int], factor: int) -> None:
    data = encode(photo(*size), "JPEG")
    image, by_pillow = decode.open_image(data, LIMIT), decode.open_image(data, LIMIT)
    for each in (image, by_pillow):
        each.draft("", (size[0] // factor, size[1] // factor))
    row = decode._decode_jpeg(image, data)
    assert row is not None
    by_pillow.load()
    assert by_pillow.size == (-(-size[0] // factor), -(-size[1] // factor))
    np.testing.assert_array_equal(row.view(np.uint8).reshape(*row.shape, 4)[..., :3], np.asarray(by_pillow))


def test_an_ordinary_jpeg_is_not_decoded_by_pillow_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded by Pillow")

    data = encode(photo(), "JPEG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert decode.decode(decode.open_image(data, LIMIT), data, LIMIT)[0].shape == (60, 90)


def irregular() -> dict[str, bytes]:
    """JPEGs that libjpeg warns of and Pillow shows all the same."""
    data = encode(photo(), "JPEG")
    scan = data.index(b"\xff\xda")
    damaged = bytearray(data)
    damaged[scan + 200 : scan + 204] = b"\xff\xd3\xff\xd5"  # restart markers where none belong
    return {"bytes before a marker": data[:scan] + b"\0\0\0" + data[scan:], "markers in the scan": bytes(damaged)}


@pytest.mark.parametrize("kind", irregular())
def test_what_simplejpeg_refuses_pillow_may_show(kind: str) -> None:
    data = irregular()[kind]
    assert decode._decode_jpeg(decode.open_image(data, LIMIT), data) is None
    np.testing.assert_array_equal(pixels(data), pixels(encode(Image.fromarray(decoded_by_pillow(data)), "PNG")))


def test_cmyk_is_left_to_pillow() -> None:
    data = encode(photo().convert("CMYK"), "JPEG")
    assert decode._decode_jpeg(decode.open_image(data, LIMIT), data) is None
    row, is_cmyk = decode.decode(decode.open_image(data, LIMIT), data, LIMIT)
    assert is_cmyk
    np.testing.assert_array_equal(row.view(np.uint8).reshape(60, 90, 4), decoded_by_pillow(data, "CMYK"))


def test_without_a_place_for_a_cache_the_resize_is_compiled_all_the_same() -> None:
    """As in a container whose models and home cannot be written."""
    program = "import numpy, resample\nprint(resample.resample(numpy.zeros((9, 7), numpy.uint32), "
    program += "resample.Axis(7, 7, 5, 0, 5), resample.Axis(9, 9, 4, 0, 4), vertical_first=False, cubic=True).shape)"
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "(4, 5)\n"), result.stderr
