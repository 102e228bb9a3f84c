"""image_preprocess against open_clip's own evaluation transform, and reduced decoding against the exact path."""

import io
from functools import cache
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from open_clip.transform import image_transform
from PIL import Image, ImageOps

from tests.modules import MODELS, REPOSITORY, load_module

PHOTOS = sorted((REPOSITORY / "samples" / "photos").glob("*.jpg"))
MODES = ["shortest", "squash", "longest"]
preprocess = load_module(MODELS / "image_preprocess" / "1" / "preprocess.py")

Pixels = NDArray[np.int64]


def ours(data: bytes, size: tuple[int, int], **options: Any) -> Pixels:
    row = np.empty((3, *size), np.uint8)
    preprocess.Preprocessor(size, **options).fill(row, data)
    return row.astype(np.int64)


def reference(image: Image.Image, size: tuple[int, int], **options: Any) -> Pixels:
    """open_clip's transform with a normalisation that does nothing, back in levels."""
    square = size[0] if size[0] == size[1] else size
    transform = image_transform(square, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3, **options)
    levels: Pixels = np.rint(transform(image).numpy() * 255).astype(np.int64)
    return levels


def encode(image: Image.Image, kind: str = "BMP", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def hard_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """Black and white noise: every rounding and every overshoot of the filter shows."""
    values = np.random.default_rng(seed).integers(0, 2, (height, width, 3), dtype=np.uint8) * 255
    return Image.fromarray(values)


def assert_same(image: Image.Image, size: tuple[int, int], **options: Any) -> None:
    difference = abs(ours(encode(image), size, **options) - reference(image, size, **options))
    assert not difference.any(), f"{image.width}x{image.height} to {size}, {options}: {difference.max()} levels"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(256, 256), (224, 224), (320, 320)])
@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.stem)
def test_photographs(photo: Any, size: tuple[int, int], mode: str) -> None:
    """JPEGs as they are, the grey one included; at these sizes none is decoded at reduced scale."""
    with Image.open(photo) as image:
        expected = reference(image, size, resize_mode=mode)
    assert (ours(photo.read_bytes(), size, resize_mode=mode) == expected).all()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("width", "height"),
    [
        *((1, 1), (1, 7), (7, 1), (2, 2), (1, 300), (300, 1), (3, 2000), (2000, 3)),
        *((64, 64), (63, 64), (65, 64), (64, 97), (97, 64), (63, 97), (65, 98), (64, 128), (64, 129), (129, 64)),
        *((128, 128), (48, 36), (36, 48), (32, 24), (96, 72), (640, 480), (480, 640), (451, 300), (301, 451)),
        *((1080, 1920), (1920, 1080), (333, 999), (999, 333), (210, 1000), (1000, 37), (37, 1000)),
    ],
)
def test_sizes(width: int, height: int, interpolation: str) -> None:
    image = hard_image(width, height)
    for mode in MODES:
        if mode == "longest" and min(width, height) * 64 / max(width, height) <= 0.5:
            continue  # open_clip fails: a side of no pixels
        assert_same(image, (64, 64), resize_mode=mode, interpolation=interpolation, fill_color=114)


@pytest.mark.parametrize(
    ("size", "mode"), [((70_000, 3), "squash"), ((70_001, 20), "squash"), ((70_000, 90), "shortest")]
)
def test_very_long_images(size: tuple[int, int], mode: str) -> None:
    for width, height in (size, size[::-1]):
        assert_same(hard_image(width, height), (64, 64), resize_mode=mode)


@settings(max_examples=250, deadline=None)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    target=st.sampled_from([16, 33, 64, 224]),
    mode=st.sampled_from(MODES),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    seed=st.integers(0, 3),
)
def test_any_size(width: int, height: int, target: int, mode: str, interpolation: str, seed: int) -> None:
    if min(width, height) * target / max(width, height) <= 0.5:
        mode = "squash"
    image = hard_image(width, height, seed)
    assert_same(image, (target, target), resize_mode=mode, interpolation=interpolation, fill_color=7)


@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
@pytest.mark.parametrize("mode", MODES)
def test_targets_that_are_not_square(size: tuple[int, int], mode: str) -> None:
    for width, height in ((200, 150), (150, 200), (64, 64), (300, 290)):
        assert_same(hard_image(width, height), size, resize_mode=mode)


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    size=st.sampled_from([(16, 16), (33, 33), (64, 64), (64, 96), (224, 224)]),
    mode=st.sampled_from(MODES),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    colours=st.sampled_from(["RGB", "CMYK"]),
)
def test_both_resizes_give_the_same(
    width: int, height: int, size: tuple[int, int], mode: str, interpolation: str, colours: str
) -> None:
    """Pillow's own resize in place of the compiled one, for images of every shape."""
    data = encode(hard_image(width, height).convert(colours), "TIFF")
    options: dict[str, Any] = {"resize_mode": mode, "interpolation": interpolation, "fill_color": 7}
    assert (ours(data, size, resize="pillow", **options) == ours(data, size, resize="compiled", **options)).all()


def test_both_resizes_give_the_same_of_a_jpeg_at_reduced_scale() -> None:
    """Whose last column and row count in part."""
    data = encode(hard_image(807, 1401), "JPEG")
    for mode in MODES:
        expected = ours(data, (64, 64), resize_mode=mode)
        assert (expected != ours(data, (64, 64), resize_mode=mode, reduced_decoding=False)).any()
        assert (ours(data, (64, 64), resize_mode=mode, resize="pillow") == expected).all()


def test_pillow_resizes_nothing_that_would_take_gigabytes() -> None:
    data = encode(hard_image(200_000, 1), "PNG")
    ours(data, (64, 64))
    with pytest.raises(preprocess.InvalidImage, match="200000x1 is too long and thin"):
        ours(data, (64, 64), resize="pillow")


def test_a_side_of_no_pixels_becomes_one() -> None:
    """Where open_clip fails, a line of the image is shown."""
    row = ours(encode(Image.new("RGB", (1, 1000), (9, 8, 7))), (64, 64), resize_mode="longest", fill_color=255)
    columns = (row != 255).any(axis=(0, 1))
    assert columns.sum() == 1
    assert row[:, 0, columns.argmax()].tolist() == [9, 8, 7]


def test_orientation_comes_before_the_transform() -> None:
    image = hard_image(300, 211)
    for orientation in range(1, 9):
        exif = exif_with(orientation)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encode(image, "PNG", exif=exif))))
        row = ours(encode(image, "PNG", exif=exif), (64, 64))
        assert (row == reference(upright, (64, 64))).all(), orientation


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_modes_that_open_clip_resizes_as_they_are(mode: str) -> None:
    image = hard_image(300, 211).convert(mode)
    assert (ours(encode(image, "TIFF"), (64, 64)) == reference(image, (64, 64))).all()


@cache
def large_jpeg(name: str, orientation: int = 1) -> bytes:
    """A photograph of 12 megapixels, or a wall of all of them at full sharpness, which enlarging cannot give."""
    if name == "wall":
        image = Image.new("RGB", (4032, 3024))
        tiles = [Image.open(path).convert("RGB") for path in PHOTOS]
        for index in range(80):
            image.paste(tiles[index % len(tiles)], (index % 9 * 450, index // 9 * 340))
    else:
        image = Image.open(REPOSITORY / "samples" / "photos" / f"{name}.jpg").convert("RGB")
        scale = (12_200_000 / (image.width * image.height)) ** 0.5
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    assert image.width * image.height >= 12_000_000
    return encode(image, "JPEG", quality=90, exif=exif_with(orientation))


@cache
def encoder() -> torch.nn.Module:
    """A small ConvNeXt, random but with layer scale at the size of a trained one, so that every block counts."""
    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model("convnext_atto", pretrained=False, num_classes=0).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.normal_(parameter, 0.3, 0.1)
    return model


def features(row: Pixels) -> torch.Tensor:
    with torch.inference_mode():
        vectors = encoder()((torch.from_numpy(row).float() / 255 - 0.45)[None] / 0.26)
    return torch.nn.functional.normalize(vectors, dim=-1)[0]


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("name", ["wall", "cat", "coffee", "galaxies"])
def test_reduced_decoding_stays_close(name: str, mode: str) -> None:
    data = large_jpeg(name)
    exact = ours(data, (256, 256), resize_mode=mode, reduced_decoding=False)
    reduced = ours(data, (256, 256), resize_mode=mode)
    difference = abs(reduced - exact)
    assert difference.any(), "it was not decoded at reduced scale"
    assert difference.mean() <= 0.5
    assert np.percentile(difference, 99.9) <= 4
    assert float(features(reduced) @ features(exact)) >= 0.999


@pytest.mark.parametrize("orientation", range(2, 9))
def test_reduced_decoding_keeps_the_orientation(orientation: int) -> None:
    data = large_jpeg("wall", orientation)
    difference = abs(ours(data, (256, 256)) - ours(data, (256, 256), reduced_decoding=False))
    assert difference.any()
    assert difference.mean() <= 0.5
    # At a size that 2 does not divide, turning would shift the image by a part of a pixel: decoded in full.
    odd = encode(hard_image(1601, 1407), "JPEG", exif=exif_with(orientation))
    assert (ours(odd, (256, 256)) == ours(odd, (256, 256), reduced_decoding=False)).all()


def test_reduced_decoding_of_odd_sizes_does_not_shift() -> None:
    """The last column and row of the reduced image are parts of a pixel: without care, half a level of shift a step."""
    ramp = np.linspace(0, 255, 2807)[None, :] * np.linspace(0.2, 1, 2801)[:, None]
    data = encode(Image.fromarray(ramp.astype(np.uint8)), "JPEG", quality=95)
    for mode in MODES:
        exact = ours(data, (64, 64), resize_mode=mode, reduced_decoding=False)
        assert abs(ours(data, (64, 64), resize_mode=mode) - exact).max() <= 1


def test_the_switch_gives_the_exact_path() -> None:
    data = large_jpeg("wall")
    expected = reference(Image.open(io.BytesIO(data)), (256, 256))
    assert (ours(data, (256, 256), reduced_decoding=False) == expected).all()


def test_ordinary_jpegs_are_decoded_in_full() -> None:
    for width, height in ((640, 480), (1024, 768), (1280, 1279)):
        data = encode(hard_image(width, height), "JPEG", quality=90)
        assert (ours(data, (256, 256)) == ours(data, (256, 256), reduced_decoding=False)).all()
