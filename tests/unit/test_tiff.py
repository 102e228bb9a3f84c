"""image_preprocess: every kind of TIFF is read rightly or refused by name. Files are written byte by byte."""

import io
import lzma
import struct
import zlib
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.image_files import encode, packed_bits, tiff
from tests.modules import REPOSITORY
from tests.unit.test_preprocess import pixels, preprocess

W, H = 51, 34
with Image.open(REPOSITORY / "samples" / "photos" / "coffee.jpg") as file:
    PHOTO = file.resize((W, H))
RGB = np.asarray(PHOTO).astype(np.uint16)
GREY = np.asarray(PHOTO.convert("L")).astype(np.uint16)
INKS = np.asarray(PHOTO.convert("CMYK")).astype(np.uint16)
ALPHA = np.linspace(0, 255, W * H).reshape(H, W).astype(np.uint16)
OPAQUE = np.full((H, W), 255, np.uint16)
ORDERS = ["<", ">"]
WHITE_IS_ZERO, BLACK_IS_ZERO, COLOUR, PALETTE, INK, LUMA, LAB = 0, 1, 2, 3, 5, 6, 8


def samples(values: NDArray[Any], kind: str, order: str) -> bytes:
    """Samples as a file has them: those of 8 bits become fuller ones where there is more room."""
    scale = 1 / 255 if kind[0] == "f" else {"u2": 257, "u4": 2**24 + 2**16 + 257}.get(kind, 1)
    return (values * scale).astype(order + kind).tobytes()


def as_planes(values: NDArray[Any], kind: str, order: str) -> list[bytes]:
    return [samples(values[..., channel], kind, order) for channel in range(values.shape[2])]


def with_channel(values: NDArray[Any], *more: NDArray[Any]) -> NDArray[Any]:
    return np.dstack((values, *more))


def assert_shows(data: bytes, expected: NDArray[Any], tolerance: int = 0) -> None:
    """The file's pixels are those of this image, uint8 [H,W] or [H,W,3]."""
    wanted = pixels(encode(Image.fromarray(expected.astype(np.uint8)), "PNG")).astype(int)
    assert abs(pixels(data).astype(int) - wanted).max() <= tolerance


def reason(data: bytes) -> str:
    with pytest.raises(preprocess.InvalidImage) as caught:
        pixels(data)
    return str(caught.value)


def over_white(values: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    share = alpha.astype(float) / 255
    share = share[..., None] if values.ndim == 3 else share
    flat: NDArray[Any] = np.rint(values * share + 255 * (1 - share))
    return flat


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_grey(bits: int, photometric: int, order: str, big: bool) -> None:
    most = 2**bits - 1
    levels = np.rint(GREY / 255 * most).astype(np.uint16)
    stored = most - levels if photometric == WHITE_IS_ZERO else levels
    body = stored.astype(f"{order}u{max(bits // 8, 1)}").tobytes() if bits % 8 == 0 else packed_bits(stored, bits)
    assert_shows(tiff(W, H, body, [bits], photometric, order=order, big=big), np.rint(levels / most * 255), bits > 8)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_colour(kind: str, planar: int, order: str, big: bool) -> None:
    strips = as_planes(RGB, kind, order) if planar == 2 else samples(RGB, kind, order)
    bits = [8 * int(kind[1])] * 3
    assert_shows(tiff(W, H, strips, bits, COLOUR, order=order, big=big, tags={284: (3, [planar])}), RGB)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_a_fourth_sample(extra: int, kind: str, planar: int, order: str) -> None:
    """0 means nothing, 1 premultiplied alpha, 2 alpha."""
    colours = np.rint(RGB * (ALPHA[..., None] / 255)).astype(np.uint16) if extra == 1 else RGB
    values = with_channel(colours, ALPHA)
    strips = as_planes(values, kind, order) if planar == 2 else samples(values, kind, order)
    tags = {284: (3, [planar]), 338: (3, [extra])}
    data = tiff(W, H, strips, [8 * int(kind[1])] * 4, COLOUR, order=order, tags=tags)
    # Premultiplied colours that are nearly transparent have lost most of their levels.
    assert_shows(data, RGB if extra == 0 else over_white(RGB, ALPHA), {0: 0, 1: 3, 2: 1}[extra])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("planar", "extra"), [(1, 0), (1, 1), (1, 2), (2, 0)])
def test_grey_with_a_second_sample(planar: int, extra: int, order: str) -> None:
    grey = np.rint(GREY * (ALPHA / 255)).astype(np.uint16) if extra == 1 else GREY
    values = with_channel(grey, ALPHA)
    strips = as_planes(values, "u1", order) if planar == 2 else samples(values, "u1", order)
    data = tiff(W, H, strips, [8, 8], BLACK_IS_ZERO, order=order, tags={284: (3, [planar]), 338: (3, [extra])})
    assert_shows(data, GREY if extra == 0 else over_white(GREY, ALPHA), {0: 0, 1: 3, 2: 1}[extra])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_inks(kind: str, planar: int, order: str) -> None:
    strips = as_planes(INKS, kind, order) if planar == 2 else samples(INKS, kind, order)
    data = tiff(W, H, strips, [8 * int(kind[1])] * 4, INK, order=order, tags={284: (3, [planar])})
    assert_shows(data, np.asarray(PHOTO.convert("CMYK").convert("RGB")), 4)  # which is resized before it is converted


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scale", [1, 257])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette(bits: int, scale: int, order: str) -> None:
    """Of 16-bit colours, or of 8-bit ones as some write."""
    colours = np.random.default_rng(0).integers(0, 256, (2**bits, 3))
    indices = GREY >> 8 - bits
    body = samples(indices, "u1", order) if bits == 8 else packed_bits(indices, bits)
    table = (3, (colours.T.reshape(-1) * scale).tolist())
    assert_shows(tiff(W, H, body, [bits], PALETTE, order=order, tags={320: table}), colours[indices])


def test_palette_with_alpha() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (256, 3))
    tags = {320: (3, (colours.T.reshape(-1) * 257).tolist()), 338: (3, [2])}
    data = tiff(W, H, samples(with_channel(GREY, ALPHA), "u1", "<"), [8, 8], PALETTE, tags=tags)
    assert_shows(data, over_white(colours[GREY], ALPHA), 1)


@pytest.mark.parametrize("subsampling", [None, (3, [1, 1])])
@pytest.mark.parametrize("planar", [1, 2])
def test_luma_and_chroma(planar: int, subsampling: tuple[int, list[int]] | None) -> None:
    """Uncompressed, at full resolution: what is not said is what the number of bytes says."""
    values = np.asarray(PHOTO.convert("YCbCr")).astype(np.uint16)
    strips = as_planes(values, "u1", "<") if planar == 2 else samples(values, "u1", "<")
    data = tiff(W, H, strips, [8] * 3, LUMA, tags={284: (3, [planar]), 530: subsampling})
    assert_shows(data, RGB, 3)


def test_lab() -> None:
    """White, black, red and blue, in CIE L*a*b* of D50 with signed a* and b*."""
    lab = np.array([[255, 0, 0], [0, 0, 0], [138, 81, 70], [75, 68, 256 - 112]], np.uint8)
    data = tiff(4, 1, lab.tobytes(), [8] * 3, LAB)
    row = pixels(data, (1, 4), resize_mode="squash").astype(int)[:, 0].T
    assert abs(row - [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]).max() <= 25  # blue is out of sRGB's reach


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("compression", [1, 8])
def test_orientation(turned: int, kind: str, compression: int) -> None:
    body = samples(RGB, kind, "<")
    body = zlib.compress(body) if compression == 8 else body
    data = tiff(W, H, body, [8 * int(kind[1])] * 3, COLOUR, tags={259: (3, [compression]), 274: (3, [turned])})
    exif = Image.Exif()
    exif[274] = turned
    np.testing.assert_array_equal(pixels(data), pixels(encode(PHOTO, "PNG", exif=exif)))


def packbits(data: bytes) -> bytes:
    return b"".join(bytes([len(data[i : i + 128]) - 1]) + data[i : i + 128] for i in range(0, len(data), 128))


COMPRESSIONS: dict[int, Callable[[bytes], bytes]] = {
    8: zlib.compress,
    32946: zlib.compress,
    32773: packbits,
    34925: lzma.compress,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("planar", [1, 2])
def test_compression(compression: int, kind: str, planar: int, order: str) -> None:
    compress = COMPRESSIONS[compression]
    strips = as_planes(RGB, kind, order) if planar == 2 else [samples(RGB, kind, order)]
    strips = list(map(compress, strips))
    tags = {259: (3, [compression]), 284: (3, [planar])}
    assert_shows(tiff(W, H, strips, [8 * int(kind[1])] * 3, COLOUR, order=order, tags=tags), RGB)


@pytest.mark.parametrize("name", ["tiff_lzw", "zstd", "jpeg", "group3", "group4", "tiff_ccitt"])
def test_compressions_that_pillow_writes(name: str) -> None:
    image = PHOTO if name in ("tiff_lzw", "zstd", "jpeg") else PHOTO.convert("1")
    data = encode(image, "TIFF", compression=name)
    with Image.open(io.BytesIO(data)) as opened:
        assert_shows(data, np.asarray(opened.convert("RGB")))


@pytest.mark.parametrize("rows", [1, 5, 34, 99])
@pytest.mark.parametrize("compression", [1, 8])
def test_strips(rows: int, compression: int) -> None:
    body, row = samples(RGB, "u1", "<"), W * 3
    strips = [body[start : start + rows * row] for start in range(0, len(body), rows * row)]
    strips = [zlib.compress(strip) for strip in strips] if compression == 8 else strips
    tags = {259: (3, [compression]), 278: (4, [rows])}
    assert_shows(tiff(W, H, strips, [8] * 3, COLOUR, tags=tags), RGB)
    assert "truncated TIFF" in reason(tiff(W, H, strips[:-1] if len(strips) > 1 else [b""], [8] * 3, COLOUR, tags=tags))


@pytest.mark.parametrize("tag", [278, 279, 284, 258])
def test_what_is_not_said_is_as_usual(tag: int) -> None:
    bits = tag == 258
    image = PHOTO.convert("1") if bits else PHOTO.convert("L")
    body = np.packbits(np.asarray(image), axis=1).tobytes() if bits else image.tobytes()
    data = tiff(W, H, body, [1 if bits else 8], BLACK_IS_ZERO, tags={tag: None})
    assert_shows(data, np.asarray(image.convert("L")))


@pytest.mark.parametrize(("values", "bits"), [(GREY, [8]), (RGB, [8] * 3)])
def test_what_samples_mean_is_guessed_as_libtiff_does(values: NDArray[Any], bits: list[int]) -> None:
    assert_shows(tiff(W, H, samples(values, "u1", "<"), bits, None), values)


def test_bits_in_reverse() -> None:
    image = PHOTO.convert("1")
    body = np.packbits(np.asarray(image), axis=1, bitorder="little").tobytes()
    assert_shows(tiff(W, H, body, [1], BLACK_IS_ZERO, tags={266: (3, [2])}), np.asarray(image.convert("L")))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("compression", [1, 8])
def test_tiles(compression: int, kind: str, order: str) -> None:
    padded = np.pad(RGB, ((0, 48 - H), (0, 64 - W), (0, 0)))
    tiles = [samples(padded[y : y + 16, x : x + 32], kind, order) for y in range(0, 48, 16) for x in range(0, 64, 32)]
    tiles = [zlib.compress(tile) for tile in tiles] if compression == 8 else tiles
    places = accumulate(map(len, tiles[:-1]), initial=8)
    tags = {259: (3, [compression]), 273: None, 278: None, 279: None, 322: (3, [32]), 323: (3, [16])}
    tags |= {324: (4, list(places)), 325: (4, [len(tile) for tile in tiles])}
    assert_shows(tiff(W, H, tiles, [8 * int(kind[1])] * 3, COLOUR, order=order, tags=tags), RGB)


@pytest.mark.parametrize(
    ("values", "kind", "photometric", "tags", "name"),
    [
        (GREY, "i1", BLACK_IS_ZERO, {339: (3, [2])}, "8-bit signed grey"),
        (GREY, "i2", BLACK_IS_ZERO, {339: (3, [2])}, "16-bit signed grey"),
        (GREY, "u4", BLACK_IS_ZERO, {}, "32-bit grey"),
        (GREY, "f4", BLACK_IS_ZERO, {339: (3, [3])}, "32-bit floating-point grey"),
        (GREY, "f2", BLACK_IS_ZERO, {339: (3, [3])}, "16-bit floating-point grey"),
        (GREY, "f8", BLACK_IS_ZERO, {339: (3, [3])}, "64-bit floating-point grey"),
        (RGB, "f4", COLOUR, {339: (3, [3, 3, 3])}, "32-bit floating-point RGB"),
        (RGB, "u4", COLOUR, {}, "32-bit RGB"),
        (RGB, "u2", LAB, {}, "16-bit Lab"),
        (RGB, "u1", 9, {}, "8-bit ICC Lab"),
        (RGB, "u1", 32845, {}, "8-bit LogLuv"),
        (GREY, "u1", 77, {}, "8-bit photometric 77"),
        (with_channel(GREY, ALPHA), "u2", BLACK_IS_ZERO, {338: (3, [2])}, "16-bit grey with alpha"),
        (with_channel(GREY, ALPHA), "u1", WHITE_IS_ZERO, {338: (3, [2])}, "8-bit grey with alpha"),
        (with_channel(GREY, ALPHA), "u1", BLACK_IS_ZERO, {}, "8-bit grey of 2 samples"),
        (with_channel(GREY, ALPHA), "u1", 1, {284: (3, [2]), 338: (3, [2])}, "8-bit grey with alpha in planes"),
        (with_channel(INKS, ALPHA), "u1", INK, {338: (3, [2])}, "8-bit CMYK with alpha"),
        (INKS, "u1", INK, {332: (3, [2])}, "inks that are not cyan, magenta, yellow and black"),
        (RGB, "u1", COLOUR, {258: (3, [5, 6, 5])}, "5/6/5-bit RGB"),
        (RGB, "u1", COLOUR, {259: (3, [34712])}, "compression JPEG 2000"),
        (RGB, "u1", COLOUR, {259: (3, [34887])}, "compression LERC"),
        (RGB, "u1", COLOUR, {259: (3, [50001])}, "compression WebP"),
        (RGB, "u1", COLOUR, {259: (3, [12345])}, "compression 12345"),
        (RGB, "u1", COLOUR, {277: (3, [9999])}, "9999 samples a pixel"),
    ],
)
def test_kinds_that_are_not_read_are_named(
    values: NDArray[Any], kind: str, photometric: int, tags: dict[int, Any], name: str
) -> None:
    channels = 1 if values.ndim == 2 else values.shape[2]
    for order in ORDERS:
        data = tiff(
            W, H, samples(values, kind, order), [8 * int(kind[1])] * channels, photometric, order=order, tags=tags
        )
        assert reason(data).startswith(f"unsupported kind of TIFF: {name}")


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({50706: (1, [1, 4, 0, 0]), 254: (4, [1])}, "a camera's raw file (DNG)"),
        ({262: (3, [32803]), 271: (2, b"PENTAX Corporation \0")}, "a camera's raw file (PENTAX Corporation)"),
        ({262: (3, [34892])}, "a camera's raw file"),
    ],
)
def test_raw_files_are_named(tags: dict[int, Any], name: str) -> None:
    assert reason(tiff(W, H, samples(GREY, "u1", "<"), [8], BLACK_IS_ZERO, tags=tags)).startswith(name)


def test_a_raw_file_whose_first_image_is_a_thumbnail() -> None:
    """As those of Nikon and Sony are: what the sensor saw is in a directory of its own."""
    sensor = struct.pack("<H", 1) + struct.pack("<HHII", 262, 3, 1, 32803) + bytes(4)
    body = samples(GREY, "u1", "<")
    data = tiff(W, H, body + sensor, [8], BLACK_IS_ZERO, tags={330: (4, [8 + len(body)]), 271: (2, b"NIKON\0")})
    assert reason(data).startswith("a camera's raw file (NIKON)")


@pytest.mark.parametrize("tag", [256, 257, 273])
def test_what_cannot_be_done_without(tag: int) -> None:
    assert "TIFF" in reason(tiff(W, H, samples(GREY, "u1", "<"), [8], BLACK_IS_ZERO, tags={tag: None}))


def test_a_directory_that_follows_itself_and_one_beyond_the_end() -> None:
    data = tiff(W, H, samples(GREY, "u1", "<"), [8], BLACK_IS_ZERO)
    assert "truncated" in reason(data[:4] + struct.pack("<I", len(data) + 5) + data[8:])
    assert "truncated" in reason(data[:-20])


def test_more_strips_than_any_encoder_writes() -> None:
    data = tiff(1, 200_000, [b"\0"] * 200_000, [8], BLACK_IS_ZERO, tags={278: (4, [1])})
    assert reason(data) == "TIFF of more than 100000 strips or tiles, which is the limit"


def test_tiles_that_are_larger_than_the_image_cost_what_they_are() -> None:
    tags = {273: None, 278: None, 279: None, 322: (4, [32768]), 323: (4, [32768]), 324: (4, [8]), 325: (4, [9])}
    data = tiff(8, 8, bytes(99), [8] * 3, COLOUR, tags={259: (3, [8]), **tags})
    assert "more than the limit of" in reason(data)
