"""image_preprocess: JPEGs: simplejpeg against Pillow, how they end, inks, unusual kinds, scans."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from tests.image_files import (
    encode,
    grey_jpeg,
    jpeg_segment,
    noise,
    progressive_jpeg,
    with_jpeg_segments,
    without_jpeg_segments,
)
from tests.modules import REPOSITORY
from tests.unit.test_preprocess import pixels, preprocess

ADOBE, FRAME = 0xEE, 0xC0


def photo(width: int = 90, height: int = 60) -> Image.Image:
    with Image.open(REPOSITORY / "samples" / "photos" / "coffee.jpg") as image:
        return image.resize((width, height))


def decoded_by_pillow(data: bytes, mode: str = "RGB") -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


def decoded(data: bytes, factor: int = 1) -> NDArray[np.uint8]:
    """uint8 [H,W,3] as stored, by the decoder alone; CMYK has four channels."""
    file = preprocess.read(data)
    array, is_cmyk = preprocess.decode(file, factor)
    return np.ascontiguousarray(array).view(np.uint8).reshape(*array.shape, 4)[..., : 4 if is_cmyk else 3]


def reason(data: bytes, **options: Any) -> str:
    with pytest.raises(preprocess.InvalidImage) as caught:
        pixels(data, **options)
    return str(caught.value)


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
    np.testing.assert_array_equal(decoded(data), decoded_by_pillow(data))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("size", [(1600, 1200), (1601, 1199)])
def test_simplejpeg_reduces_as_pillow_reduces(size: tuple[int, int], factor: int) -> None:
    data = encode(photo(*size), "JPEG")
    by_pillow = Image.open(io.BytesIO(data))
    by_pillow.draft("", (size[0] // factor, size[1] // factor))
    by_pillow.load()
    assert by_pillow.size == (-(-size[0] // factor), -(-size[1] // factor))
    np.testing.assert_array_equal(decoded(data, factor), np.asarray(by_pillow))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_pillow_has_no_part_in_an_ordinary_jpeg(
    mode: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(image: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded by Pillow")

    data = encode(photo().convert(mode), "JPEG", **options)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert decoded(data).shape == (60, 90, 4 if mode == "CMYK" else 3)


# How it ends


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"quality": 100}], ids=str
)
@pytest.mark.parametrize("seed", range(4))
def test_whole_pixels_need_no_end_marker(options: dict[str, Any], seed: int) -> None:
    data = encode(noise(40 + seed, 31 + 5 * seed, seed=seed), "JPEG", **options)
    for cut in (data[:-1], data[:-2], data[:-2] + bytes(3), data + b"rest", data[:-2] + b"\0" * 30 + data[-2:]):
        np.testing.assert_array_equal(pixels(cut), pixels(data))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.8, 0.97])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9", b"\xff\xd9 and more", b"\xff\xd9\xff\xd9"])
def test_missing_pixels_are_never_grey_ones(options: dict[str, Any], mode: str, share: float, end: bytes) -> None:
    """Cut in a scan, with an end marker there or not, or with one put in the middle."""
    data = encode(noise(64, 48).convert(mode), "JPEG", **options)
    start = data.index(b"\xff\xda")
    at = start + 20 + int((len(data) - start - 20) * share)
    assert "truncated JPEG: " in reason(data[:at] + end)
    if end == b"\xff\xd9":
        assert "JPEG" in reason(data[:at] + end + data[at:])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("scans", range(1, 6))
def test_a_progressive_jpeg_that_ends_between_scans(mode: str, scans: int) -> None:
    """Without an end marker it is cut off, of which libjpeg knows nothing; with one it is coarse, but whole."""
    data = encode(photo().convert(mode), "JPEG", progressive=True)
    starts = [position for position in range(len(data)) if data[position : position + 2] == b"\xff\xda"]
    end = data.index(b"\xff\xc4", starts[scans - 1])
    assert reason(data[:end]).startswith("truncated JPEG: ")
    np.testing.assert_array_equal(decoded(data[:end] + b"\xff\xd9"), decoded_by_pillow(data[:end] + b"\xff\xd9"))


def test_bytes_that_were_not_understood_are_not_taken_for_padding() -> None:
    data = encode(photo(), "JPEG")
    assert reason(data[:-2] + b"surplus!" * 9 + data[-2:]).startswith("damaged or truncated JPEG: ")


def test_restart_markers_where_none_belong() -> None:
    data = bytearray(encode(photo(), "JPEG"))
    scan = data.index(b"\xff\xda")
    data[scan + 200 : scan + 204] = b"\xff\xd3\xff\xd5"
    assert reason(bytes(data)).startswith("truncated JPEG: ")


def test_padding_of_a_thumbnail_is_not_looked_at() -> None:
    """A thumbnail has an end marker too, before the image's."""
    data = encode(photo(), "JPEG")
    thumbnail = jpeg_segment(0xE1, b"Exif\0\0nothing\xff\xd9" + data)
    padded = data[:-2] + bytes(12) + data[-2:]
    np.testing.assert_array_equal(pixels(with_jpeg_segments(padded, thumbnail)), pixels(data))


# Inks


def cmyk(inverted: bool, adobe: bytes | None, **options: Any) -> bytes:
    """A JPEG of four inks, whose samples are inverted as Adobe's are, with this content of an APP14 segment."""
    image = photo().convert("CMYK")
    if not inverted:  # Pillow inverts when it writes
        image = Image.frombytes("CMYK", image.size, bytes(255 - value for value in image.tobytes()))
    data = without_jpeg_segments(encode(image, "JPEG", quality=95, **options), ADOBE)
    return data if adobe is None else with_jpeg_segments(data, jpeg_segment(ADOBE, adobe))


def rgb_of_inks() -> NDArray[np.int64]:
    return pixels(encode(photo().convert("CMYK").convert("RGB"), "PNG")).astype(np.int64)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    ("inverted", "adobe"),
    [
        (True, b"Adobe\0\x64\0\0\0\0\0"),
        (True, b"Adobe\0\x64"),  # cut short, but Adobe's
        (False, None),
        (False, b"Ducky\0\1\0\0\0\0\0"),
    ],
)
def test_adobes_marker_says_how_inks_are_stored(inverted: bool, adobe: bytes | None, progressive: bool) -> None:
    row = pixels(cmyk(inverted, adobe, progressive=progressive)).astype(np.int64)
    assert abs(row - rgb_of_inks()).mean() < 2


def test_inks_that_adobe_writes_are_what_open_clip_sees() -> None:
    data = encode(photo().convert("CMYK"), "JPEG")
    np.testing.assert_array_equal(decoded(data), decoded_by_pillow(data, "CMYK"))


def test_ycck() -> None:
    """Adobe's other way: three of the inks as YCbCr."""
    data = bytearray(cmyk(True, b"Adobe\0\x64\0\0\0\0\2"))
    np.testing.assert_array_equal(decoded(bytes(data)), decoded_by_pillow(bytes(data), "CMYK"))


# Unusual kinds


@pytest.mark.parametrize("factors", [(0x31, 0x11, 0x11), (0x21, 0x21, 0x11), (0x12, 0x11, 0x21), (0x22, 0x12, 0x11)])
def test_sampling_that_only_pillow_decodes(factors: tuple[int, ...]) -> None:
    data = grey_jpeg(90, 60, factors)
    np.testing.assert_array_equal(decoded(data), decoded_by_pillow(data))
    assert (decoded(data) == 128).all()
    assert reason(grey_jpeg(90, 60, factors, share=0.7)).startswith("truncated JPEG: ")
    short = with_jpeg_segments(data, jpeg_segment(0xE0, b"JF"))  # which Pillow alone would refuse
    np.testing.assert_array_equal(decoded(short), decoded(data))


@pytest.mark.parametrize(
    ("offset", "value", "name"),
    [
        (1, 0xC3, "lossless"),
        (1, 0xC9, "arithmetic-coded"),
        (1, 0xCA, "arithmetic-coded"),
        (1, 0xC5, "hierarchical"),
        (1, 0xCB, "lossless"),
        (1, 0xF7, "JPEG-LS"),
        (4, 12, "12 bits a sample"),
        (9, 2, "2 components"),
    ],
)
def test_kinds_that_are_not_read_are_named(offset: int, value: int, name: str) -> None:
    data = bytearray(encode(photo(), "JPEG"))
    data[data.index(b"\xff\xc0") + offset] = value
    assert reason(bytes(data)).startswith(f"unsupported kind of JPEG: {name}")


def test_a_height_that_comes_later_is_named() -> None:
    data = bytearray(encode(photo(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 7] = b"\0\0"
    assert reason(bytes(data)).startswith("unsupported kind of JPEG: its height is not in its header")


# Scans


@pytest.mark.parametrize("scans", [101, 300, 5000])
def test_scans_are_counted_before_decoding(scans: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode_jpeg(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded")

    data = progressive_jpeg(photo(), scans)
    monkeypatch.setattr("jpeg_decoder.simplejpeg.decode_jpeg", decode_jpeg)
    assert reason(data) == "JPEG of more than 100 scans, which is the limit"


def test_scans_cost_by_what_they_cover() -> None:
    few, many = (preprocess.read(progressive_jpeg(photo(900, 600), scans)).cost for scans in (10, 90))
    assert many.nanoseconds > 3 * few.nanoseconds


def test_scans_of_a_second_image_do_not_count() -> None:
    """A phone's file may go on with another image, or with a film."""
    data = encode(photo(), "JPEG", progressive=True)
    np.testing.assert_array_equal(pixels(data + progressive_jpeg(photo(), 300)), pixels(data))


def test_a_sequential_jpeg_in_several_scans() -> None:
    """One scan for each component, as some scanners write."""
    luma = encode(photo().convert("L"), "JPEG")
    frame, scan = luma.index(b"\xff\xc0"), luma.index(b"\xff\xda")
    head = luma[:frame] + b"\xff\xc0\0\x11\x08" + luma[frame + 5 : frame + 9] + b"\3\1\x11\0\2\x11\0\3\x11\0"
    tables = luma[frame + 13 : scan]
    parts = [luma[scan : scan + 5] + bytes([component]) + luma[scan + 6 : -2] for component in (1, 2, 3)]
    data = head + tables + b"".join(parts) + b"\xff\xd9"
    np.testing.assert_array_equal(decoded(data), decoded_by_pillow(data))
    assert reason(head + tables + b"".join(parts * 40)) == "JPEG of more than 100 scans, which is the limit"
    assert reason(head + tables + parts[0] + parts[1] + b"\xff\xd9").startswith("truncated JPEG: ")
