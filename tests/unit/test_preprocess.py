"""image_preprocess: formats, orientation, modes, transparency. Each is compared with the plain RGB image it means."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.image_files import encode, png, tiff
from tests.modules import MODELS, REPOSITORY, load_module

preprocess = load_module(MODELS / "image_preprocess" / "1" / "preprocess.py")

Pixels = NDArray[np.uint8]
ORIENTATION = 0x0112


def pixels(data: bytes, size: tuple[int, int] = (48, 48), **options: Any) -> Pixels:
    row = np.full((3, *size), 99, np.uint8)
    preprocess.Preprocessor(size, **options).fill(row, data)
    return row


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    with Image.open(REPOSITORY / "samples" / "photos" / "coffee.jpg") as image:
        return image.resize((90, 60))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("BMP", {}),
        ("DIB", {}),
        ("PPM", {}),
        ("JPEG2000", {"irreversible": False}),
        ("QOI", {}),
    ],
)
def test_lossless_formats(photo: Image.Image, kind: str, options: dict[str, Any]) -> None:
    np.testing.assert_array_equal(pixels(encode(photo, kind, **options)), pixels(encode(photo, "BMP")))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "subsampling": 0}),
        ("WEBP", {}),
        ("JPEG2000", {"irreversible": True, "quality_layers": [20]}),
        ("AVIF", {}),
        ("TIFF", {"compression": "jpeg"}),
    ],
)
def test_lossy_formats(photo: Image.Image, kind: str, options: dict[str, Any]) -> None:
    data = encode(photo, kind, **options)
    decoded = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(pixels(data), pixels(encode(decoded, "PNG")))


def test_icon(photo: Image.Image) -> None:
    data = encode(photo.resize((64, 64)), "ICO", sizes=[(16, 16), (64, 64)])
    np.testing.assert_array_equal(pixels(data), pixels(encode(photo.resize((64, 64)), "PNG")))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_the_first_frame_counts(photo: Image.Image, kind: str) -> None:
    other = ImageOps.invert(photo)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(photo, kind, save_all=True, append_images=[other], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 2
    first = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(pixels(data), pixels(encode(first, "PNG")))


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(photo: Image.Image, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options: dict[str, Any] = {"save_all": True, "append_images": [photo]} if kind == "MPO" else {}
    data = encode(photo, kind, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert upright.size == ((90, 60) if orientation < 5 else (60, 90))
    np.testing.assert_array_equal(pixels(data), pixels(encode(upright, "PNG")))


def test_orientation_is_not_taken_for_granted() -> None:
    """The eight cases against arithmetic, not against Pillow: a red corner must end up at the top left."""
    corners = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
    for orientation, (y, x) in corners.items():
        values = np.zeros((32, 32, 3), np.uint8)
        values[y * 16 : y * 16 + 16, x * 16 : x * 16 + 16, 0] = 255
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        row = pixels(encode(Image.fromarray(values), "PNG", exif=exif), (32, 32))
        assert (row[0, :16, :16] == 255).all(), orientation
        assert row[0].sum() == 255 * 16 * 16, orientation


@pytest.mark.parametrize("value", [0, 9, 255])
def test_unknown_orientation_is_upright(photo: Image.Image, value: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    np.testing.assert_array_equal(pixels(encode(photo, "PNG", exif=exif)), pixels(encode(photo, "PNG")))


def test_damaged_metadata_does_not_spoil_an_image(photo: Image.Image) -> None:
    good, bad = encode(photo, "JPEG"), encode(photo, "JPEG", exif=b"Exif\0\0nonsense" + b"\xff" * 20)
    np.testing.assert_array_equal(pixels(bad), pixels(good))


def test_grey_is_repeated_over_the_channels(photo: Image.Image) -> None:
    row = pixels(encode(photo.convert("L"), "JPEG"))
    assert (row == row[0]).all()
    assert row.std() > 10


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF"])
def test_palette(photo: Image.Image, kind: str) -> None:
    palette = photo.quantize(64)
    np.testing.assert_array_equal(pixels(encode(palette, kind)), pixels(encode(palette.convert("RGB"), "BMP")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_one_bit(photo: Image.Image, kind: str) -> None:
    """Not resized as it stands: Pillow would pick the nearest pixel."""
    image = photo.convert("1")
    np.testing.assert_array_equal(pixels(encode(image, kind)), pixels(encode(image.convert("L"), "BMP")))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(photo: Image.Image, kind: str) -> None:
    """Converted after the resize, as open_clip does it; a level or two from before is a matter of rounding."""
    data = encode(photo.convert("CMYK"), kind, **({"quality": 95} if kind == "JPEG" else {}))
    decoded = Image.open(io.BytesIO(data))
    assert decoded.mode == "CMYK"
    expected = pixels(encode(decoded.convert("RGB"), "PNG")).astype(int)
    assert abs(pixels(data) - expected).max() <= 4


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces(photo: Image.Image, mode: str) -> None:
    image = photo.convert("YCbCr") if mode == "YCbCr" else photo.copy()
    if mode == "LAB":
        image = Image.merge("LAB", (photo.convert("L"), Image.new("L", photo.size, 0), Image.new("L", photo.size, 0)))
    data = encode(image, "TIFF")
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(pixels(data), pixels(encode(expected, "PNG")))


def sixteen_bits() -> NDArray[np.uint16]:
    return np.linspace(0, 65535, 48 * 48).reshape(48, 48).astype(np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF big endian", "PPM", "JPEG2000"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    levels = sixteen_bits()
    if kind == "PPM":
        data = b"P5 48 48 65535\n" + levels.astype(">u2").tobytes()
    elif kind == "TIFF big endian":
        data = encode(Image.frombytes("I;16B", (48, 48), levels.astype(">u2").tobytes()), "TIFF")
    else:
        data = encode(Image.fromarray(levels), kind)
    row = pixels(data).astype(int)
    assert abs(row - levels / 257).max() <= 1


def test_sixteen_bit_colour() -> None:
    levels = np.stack([sixteen_bits(), sixteen_bits()[::-1], sixteen_bits().T], axis=-1)
    row = pixels(png(48, 48, 16, 2, levels.astype(">u2").tobytes())).astype(int)
    assert abs(row - levels.transpose(2, 0, 1) / 257).max() <= 1


def test_twelve_bit_grey() -> None:
    # Two samples of 0x800 fill three bytes.
    row = pixels(tiff(48, 48, bytes([0x80, 0x08, 0x00]) * (48 * 24), [12], 1))
    assert (row == 128).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(
        preprocess.InvalidImage,
        match="cannot be converted to RGB: the range of 32-bit values is not known",
    ):
        pixels(encode(Image.new(mode, (48, 48)), "TIFF"))


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("WEBP", "RGBA"), ("TIFF", "RGBA"), ("PNG", "LA")])
def test_transparency_is_laid_over_white(photo: Image.Image, kind: str, mode: str) -> None:
    image = photo.convert(mode)
    alpha = np.linspace(0, 255, 90 * 60).reshape(60, 90).astype(np.uint8)
    image.putalpha(Image.fromarray(alpha))
    opaque = np.asarray(photo.convert("L").convert("RGB") if mode == "LA" else photo).astype(float)
    share = alpha[..., None] / 255
    flat = np.rint(opaque * share + 255 * (1 - share)).astype(np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    row, expected = pixels(encode(image, kind, **options)), pixels(encode(Image.fromarray(flat), "PNG"))
    assert abs(row.astype(int) - expected).max() <= 1


def test_one_transparent_colour() -> None:
    """A tRNS key, in each colour type that can have one, at 8 and 16 bits."""
    grey8, rgb8 = bytes([7]) * 48 * 48, bytes([7, 8, 9]) * 48 * 48
    grey16 = struct.pack(">H", 0x0102) * 48 * 48
    assert (pixels(png(48, 48, 8, 0, grey8, (b"tRNS", b"\0\7"))) == 255).all()
    assert (pixels(png(48, 48, 8, 0, grey8, (b"tRNS", b"\0\6"))) == 7).all()
    assert (pixels(png(48, 48, 8, 2, rgb8, (b"tRNS", b"\0\7\0\x08\0\x09"))) == 255).all()
    assert (pixels(png(48, 48, 16, 0, grey16, (b"tRNS", b"\1\2"))) == 255).all()
    assert (pixels(png(48, 48, 16, 0, grey16, (b"tRNS", b"\1\3"))) == 1).all()
    palette = (b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    half = pixels(png(48, 48, 8, 3, b"\0" * 48 * 48, palette, (b"tRNS", b"\x80\xff")))
    assert abs(half[:, 0, 0].astype(int) - [132, 137, 142]).max() <= 1


def test_transparent_gif() -> None:
    image = Image.new("P", (48, 48), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.paste(0, (0, 0, 24, 48))
    row = pixels(encode(image, "GIF", transparency=0))
    assert (row[:, :, :24] == 255).all()
    assert (row[:, :, 24:].reshape(3, -1).T == [200, 100, 50]).all()


def test_sixteen_bit_colour_with_a_transparent_one() -> None:
    samples = struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC) * 48 * 48
    row = pixels(png(48, 48, 16, 2, samples, (b"tRNS", struct.pack(">HHH", 0x1111, 0x2222, 0x3333))))
    assert row[:, 0, 0].tolist() == [0x12, 0x56, 0x9A]
