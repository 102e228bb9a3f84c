"""image_preprocess: HEIF and AVIF: pixels, turning, camera data, what their boxes claim, what they cost."""

import io
import struct
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

from tests.image_files import encode
from tests.modules import MODELS, REPOSITORY, load_module
from tests.unit.test_metadata import BAD_EXIF, ICC
from tests.unit.test_preprocess import pixels, preprocess

pillow_heif.register_heif_opener()
coded = load_module(MODELS / "image_preprocess" / "1" / "coded.py")
KINDS = ["AVIF", "HEIF"]
FAST: dict[str, dict[str, Any]] = {"AVIF": {"speed": 10}, "HEIF": {}}

with Image.open(REPOSITORY / "samples" / "photos" / "coffee.jpg") as file:
    PHOTO = file.resize((90, 60))


def written(kind: str, image: Image.Image = PHOTO, **options: Any) -> bytes:
    return encode(image, kind, **FAST[kind], **options)


def shown(data: bytes) -> Image.Image:
    """What Pillow and its plugin make of the file."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def reason(data: bytes, **options: Any) -> str:
    with pytest.raises(preprocess.InvalidImage) as caught:
        pixels(data, **options)
    return str(caught.value)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_pixels(kind: str, mode: str) -> None:
    image = PHOTO.convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = written(kind, image)
    opened: Image.Image = Image.open(io.BytesIO(data))
    assert opened.mode == {"L": "RGB" if kind == "AVIF" else "L"}.get(mode, mode) or opened.mode == "L"
    if mode == "RGBA":
        opened = Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened.convert("RGBA"))
    difference = abs(pixels(data).astype(int) - pixels(encode(opened.convert("RGB"), "PNG")))
    assert difference.max() <= (1 if mode == "RGBA" else 0)


def test_ten_bits_become_eight() -> None:
    deep = pillow_heif.from_bytes("RGB;16", PHOTO.size, np.repeat(np.asarray(PHOTO).astype("<u2") * 257, 1).tobytes())
    file = io.BytesIO()
    deep.save(file, quality=-1, chroma=444)
    assert pillow_heif.open_heif(file.getvalue(), convert_hdr_to_8bit=False).info["bit_depth"] > 8
    assert abs(pixels(file.getvalue()).astype(int) - pixels(encode(PHOTO, "PNG"))).mean() < 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_image_is_turned_once(kind: str, orientation: int) -> None:
    """By the container's own properties; an orientation in its camera data describes what they do, or nothing."""
    image, exif = PHOTO.copy(), exif_of(orientation).tobytes()
    image.info["exif"] = exif  # from which the one encoder writes those properties; the other takes them as an option
    data = written(kind, image, **({"exif": exif} if kind == "AVIF" else {}))
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert upright.size == ((90, 60) if orientation < 5 else (60, 90))
    np.testing.assert_array_equal(pixels(data), pixels(encode(upright, "PNG")))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_camera_data_alone_turn_no_heif(orientation: int) -> None:
    exif = exif_of(orientation).tobytes()
    plain, data = written("HEIF"), written("HEIF", exif=exif_of(1).tobytes())
    changed = data.replace(exif_of(1).tobytes()[6:], exif[6:])
    assert changed != data
    np.testing.assert_array_equal(pixels(changed), pixels(plain))


@pytest.mark.parametrize("what", BAD_EXIF)
def test_broken_camera_data(what: str) -> None:
    for kind in KINDS:
        exif = exif_of(1)
        exif[0x010E] = "description" * 30
        data = written(kind, exif=exif.tobytes(), xmp=b"<x:xmpmeta/>")
        at = data.index(b"MM\0*", data.index(b"mdat"))
        bad = BAD_EXIF[what].removeprefix(b"Exif\0\0").ljust(99, b"\xff")[:300]
        changed = data[:at] + bad + data[at + len(bad) :]
        np.testing.assert_array_equal(pixels(changed), pixels(written(kind)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", [name for name in ICC if name != "large"])
def test_broken_profiles(kind: str, what: str) -> None:
    data = written(kind, icc_profile=b"profile" * 40)
    at = data.index(b"profile" * 40)
    changed = data[:at] + ICC[what].ljust(280, b"\xfe")[:280] + data[at + 280 :]
    np.testing.assert_array_equal(pixels(changed), pixels(data))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated(kind: str, share: float) -> None:
    data = written(kind)
    assert f"truncated {kind}" in reason(data[: int(len(data) * share)])


def test_a_grid() -> None:
    image = PHOTO.resize((500, 300))
    data = encode(image, "HEIF", tile_size=128)
    assert data.count(b"hvc1") > 4
    np.testing.assert_array_equal(pixels(data), pixels(encode(shown(data), "PNG")))
    assert preprocess.read(data).cost.nanoseconds > preprocess.read(encode(image, "HEIF")).cost.nanoseconds


def test_the_first_frame_of_an_animation() -> None:
    data = written("AVIF", save_all=True, append_images=[ImageOps.invert(PHOTO)])
    assert data[8:12] == b"avis"
    np.testing.assert_array_equal(pixels(data), pixels(encode(shown(data), "PNG")))


@pytest.mark.parametrize(("old", "new", "name"), [(b"hvc1", b"av01", "coded as AV1"), (b"hvc1", b"iovl", "an overlay")])
def test_kinds_that_are_not_read_are_named(old: bytes, new: bytes, name: str) -> None:
    data = written("HEIF").replace(b"\0\0" + old, b"\0\0" + new, 1)
    assert "unsupported kind of HEIF: " in reason(data)
    assert name in reason(data)


def claiming(data: bytes, size: tuple[int, int], claimed: tuple[int, int]) -> bytes:
    """The file with another size in its boxes than in its coded data."""
    extent = b"ispe" + bytes(4)
    assert extent + struct.pack(">II", *size) in data
    return data.replace(extent + struct.pack(">II", *size), extent + struct.pack(">II", *claimed))


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_in_the_boxes_is_not_believed(kind: str) -> None:
    data = claiming(written(kind, Image.new("RGB", (3000, 2000))), (3000, 2000), (64, 64))
    assert kind in reason(data, max_decode_bytes=20_000_000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_huge_size_is_refused_before_decoding(kind: str) -> None:
    data = written(kind, PHOTO.resize((128, 64)))
    claims = claiming(data, (128, 64), (60_000, 50_000))
    assert reason(claims) == "60000x50000 is more pixels than the limit of 100000000"
    assert "more than the limit of" in reason(claiming(data, (128, 64), (10_000, 9_000)))


def test_sizes_and_images_of_coded_data() -> None:
    """An AV1 sequence of Pillow's encoder, and an HEVC image: a slice with its first bit set."""
    data = written("AVIF", PHOTO.resize((322, 198)))
    start = data.index(b"mdat") + 4
    width, height, frames = coded.av1_size(data[start:])
    assert (width, height, frames) == (322, 198, 1)
    unit = bytes([19 << 1, 1, 0x80]) + bytes(7)
    parameters = bytes([33 << 1, 1, 0x80])
    assert coded.hevc_pictures(b"".join(struct.pack(">I", len(u)) + u for u in (parameters, unit, unit)), 4) == 2


def test_many_images_in_the_place_of_one() -> None:
    """Frames that are not shown are decoded all the same."""
    data = written("AVIF")
    start = data.index(b"mdat") + 4
    item = data[start:]
    assert coded.av1_size(item * 9)[2] == 9
    place = data.index(struct.pack(">I", len(item)), data.index(b"iloc"))
    changed = data[:place] + struct.pack(">I", len(item) * 9) + data[place + 4 : start - 8]
    changed += struct.pack(">I", 8 + len(item) * 9) + b"mdat" + item * 9
    assert "9 images in the place of one" in reason(changed)


@pytest.mark.parametrize("brand", [b"mif1", b"msf1", b"heic", b"heix"])
def test_heif_goes_by_any_of_its_brands(brand: bytes) -> None:
    data = written("HEIF")
    np.testing.assert_array_equal(pixels(data[:8] + brand + data[12:]), pixels(data))


def test_without_its_decoder_heif_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_module(MODELS / "image_preprocess" / "1" / "decode.py")
    monkeypatch.setattr(module, "FORMATS", tuple(name for name in module.FORMATS if name != "HEIF"))
    with pytest.raises(preprocess.InvalidImage, match=r"HEIF.*pillow-heif.*convert it to JPEG or PNG"):
        module.read(written("HEIF"))
