"""PIL images give the pixels of the same image as a PNG, or are refused by name; so do the files they come from."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from tests.image_files import encode, jpeg_segment, tiff, with_jpeg_segments, without_jpeg_segments
from tests.modules import REPOSITORY
from tests.unit.test_metadata import BAD_EXIF
from tests.unit.test_preprocess import pixels
from tritonclip._core.png import UnusableImage, png_of_array, png_of_image

pillow_heif.register_heif_opener()
ORIENTATION = 0x0112
ADOBE = 0xEE

with Image.open(REPOSITORY / "samples" / "photos" / "coffee.jpg") as file:
    PHOTO = file.resize((90, 60))
ALPHA = Image.linear_gradient("L").resize(PHOTO.size)


@pytest.fixture(autouse=True)
def _as_in_a_callers_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's module asks Pillow for libtiff; a caller's Pillow does as it always does."""
    monkeypatch.setattr(TiffImagePlugin, "READ_LIBTIFF", False)


def with_alpha(mode: str) -> Image.Image:
    image = PHOTO.convert("RGBA" if mode == "RGBA" else mode)
    image.putalpha(ALPHA)
    return image


def over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def palette_with(transparency: bytes | int) -> Image.Image:
    image = PHOTO.quantize(16)
    image.info["transparency"] = transparency
    return image


def with_transparent_colour(mode: str, colour: Any) -> Image.Image:
    image = PHOTO.convert(mode)
    image.info["transparency"] = colour
    return image


def with_itself_over_white(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    return image, over_white(image)


def palette_and_alpha() -> Image.Image:
    return PHOTO.quantize(16).convert("PA")


# An image, and the plain one that shows what it means.
MODES: dict[str, Callable[[], tuple[Image.Image, Image.Image]]] = {
    "1": lambda: (PHOTO.convert("1"), PHOTO.convert("1").convert("RGB")),
    "L": lambda: (PHOTO.convert("L"), PHOTO.convert("L")),
    "P": lambda: (PHOTO.quantize(64), PHOTO.quantize(64).convert("RGB")),
    "RGB": lambda: (PHOTO, PHOTO),
    "RGBX": lambda: (PHOTO.convert("RGBX"), PHOTO),
    "CMYK": lambda: (PHOTO.convert("CMYK"), PHOTO.convert("CMYK").convert("RGB")),
    "YCbCr": lambda: (PHOTO.convert("YCbCr"), PHOTO.convert("YCbCr").convert("RGB")),
    "HSV": lambda: (PHOTO.convert("HSV"), PHOTO.convert("HSV").convert("RGB")),
    "LAB": lambda: (PHOTO.convert("RGB").convert("LAB"), PHOTO.convert("LAB").convert("RGB")),
    "RGBA": lambda: (with_alpha("RGBA"), over_white(with_alpha("RGBA"))),
    "LA": lambda: (with_alpha("L"), over_white(with_alpha("L"))),
    "PA": lambda: (palette_and_alpha(), palette_and_alpha().convert("RGB")),
    "RGBa": lambda: (with_alpha("RGBA").convert("RGBa"), over_white(with_alpha("RGBA"))),
    "La": lambda: (with_alpha("L").convert("La"), over_white(with_alpha("L"))),
    "P and a transparent index": lambda: with_itself_over_white(palette_with(3)),
    "P and an alpha for each": lambda: (
        palette_with(bytes(range(0, 160, 10))),
        over_white(palette_with(bytes(range(0, 160, 10)))),
    ),
    "L and a transparent level": lambda: (
        with_transparent_colour("L", 90),
        over_white(with_transparent_colour("L", 90)),
    ),
    "RGB and a transparent colour": lambda: (with_transparent_colour("RGB", PHOTO.getpixel((4, 4))), PHOTO),
    "RGB and what is left of a palette": lambda: (with_transparent_colour("RGB", 3), PHOTO),
    "RGB and bytes": lambda: (with_transparent_colour("RGB", b"\0\1"), PHOTO),
    "L and bytes": lambda: (with_transparent_colour("L", b"\0\1"), PHOTO.convert("L")),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str) -> None:
    image, meant = MODES[mode]()
    tolerance = {"RGBa": 3, "La": 3, "RGBA": 1, "LA": 1, "P and an alpha for each": 1}.get(mode, 0)
    difference = abs(pixels(png_of_image(image)).astype(int) - pixels(encode(meant, "PNG")))
    assert difference.max() <= tolerance


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N"])
def test_sixteen_bits(mode: str) -> None:
    levels = np.linspace(0, 65535, 90 * 60).reshape(60, 90).astype(np.uint16)
    image = Image.frombytes(mode, (90, 60), levels.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    np.testing.assert_array_equal(pixels(png_of_image(image)), pixels(encode(Image.fromarray(levels), "PNG")))


def test_thirty_two_bits_of_a_format_that_has_sixteen() -> None:
    levels = np.linspace(0, 65535, 90 * 60).reshape(60, 90).astype(">u2")
    data = b"P5 90 60 65535\n" + levels.tobytes()
    image = Image.open(io.BytesIO(data))
    assert image.mode == "I"
    np.testing.assert_array_equal(pixels(png_of_image(image)), pixels(data))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_of_no_known_range_are_refused(mode: str) -> None:
    with pytest.raises(UnusableImage, match=f"mode {mode} are not supported: the range of its values is not known"):
        png_of_image(Image.new(mode, (9, 9)))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_images_of_no_pixels_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UnusableImage, match="no pixels"):
        png_of_image(Image.new("RGB", size))


@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_path_and_the_image_opened_from_it(kind: str, orientation: int, is_loaded: bool) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    source = PHOTO.copy()
    source.info["exif"] = exif.tobytes()
    options: dict[str, Any] = {} if kind == "HEIF" else {"exif": exif}
    options |= {"lossless": True} if kind == "WEBP" else {"speed": 10} if kind == "AVIF" else {}
    data = encode(source, kind, **options)
    image = Image.open(io.BytesIO(data))
    if is_loaded:
        image.load()
    difference = abs(pixels(png_of_image(image)).astype(int) - pixels(data))
    assert difference.max() == 0
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(pixels(data), pixels(encode(upright, "PNG")))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("asked", [False, True])
def test_a_tiff_is_turned_once(compression: str | None, asked: bool) -> None:
    """Also where somebody has asked for its camera data before."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encode(PHOTO, "TIFF", exif=exif, compression=compression)
    image = Image.open(io.BytesIO(data))
    if asked:
        assert image.getexif()[ORIENTATION] == 6
    np.testing.assert_array_equal(pixels(png_of_image(image)), pixels(data))


@pytest.mark.parametrize("what", BAD_EXIF)
def test_broken_camera_data_count_as_upright(what: str) -> None:
    image = PHOTO.copy()
    image.info["exif"] = BAD_EXIF[what]
    np.testing.assert_array_equal(pixels(png_of_image(image)), pixels(encode(PHOTO, "PNG")))


@pytest.mark.parametrize("is_adobes", [False, True])
def test_inks_of_a_jpeg(is_adobes: bool) -> None:
    """Pillow inverts them whether Adobe wrote them or not."""
    data = without_jpeg_segments(encode(PHOTO.convert("CMYK"), "JPEG"), ADOBE)
    if is_adobes:
        data = with_jpeg_segments(data, jpeg_segment(ADOBE, b"Adobe\0\x64\0\0\0\0\0"))
    difference = abs(pixels(png_of_image(Image.open(io.BytesIO(data)))).astype(int) - pixels(data))
    assert difference.max() <= 4  # the server resizes inks before it converts them


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (tiff(9, 9, bytes(81 * 4), [32], 1, tags={339: (3, [3])}), "mode F"),
        (encode(PHOTO, "PNG")[:3000], "cannot read it"),
        (encode(PHOTO, "GIF")[:900], "cannot read it"),
    ],
)
def test_what_pillow_cannot_read(data: bytes, name: str) -> None:
    image = Image.open(io.BytesIO(data))
    with pytest.raises(UnusableImage, match=name):
        png_of_image(image)


@pytest.mark.parametrize(
    "data",
    [
        tiff(9, 9, [bytes(162)] * 3, [16] * 3, 2, tags={284: (3, [2])}),
        tiff(9, 9, bytes(162), [16], 0),
        tiff(9, 9, bytes(81), [8], 1, tags={339: (3, [2])}),
    ],
)
def test_what_pillow_misreads(data: bytes) -> None:
    with pytest.raises(UnusableImage, match="give its path or its bytes"):
        png_of_image(Image.open(io.BytesIO(data)))


def test_closed_images() -> None:
    for kind in ("JPEG", "PNG", "TIFF", "GIF"):
        with Image.open(io.BytesIO(encode(PHOTO, kind))) as image:
            pass
        with pytest.raises(UnusableImage, match="cannot read it"):
            png_of_image(image)


def test_profiles_stay_behind() -> None:
    image = PHOTO.copy()
    image.info["icc_profile"] = bytes(100_000)
    assert len(png_of_image(image)) == len(png_of_image(PHOTO))


def test_arrays() -> None:
    np.testing.assert_array_equal(pixels(png_of_array(np.asarray(PHOTO))), pixels(encode(PHOTO, "PNG")))
