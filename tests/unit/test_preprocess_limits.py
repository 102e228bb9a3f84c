"""image_preprocess: limits, damaged data, configuration, and the adapter with a stand-in for Triton."""

import io
import json
import random
import struct
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from tests.image_files import encode, png
from tests.modules import MODELS, REPOSITORY, json_text, load_model, load_module, request
from tests.unit.test_preprocess import pixels, preprocess

FOLDER = MODELS / "image_preprocess" / "1"
PHOTO = (REPOSITORY / "samples" / "photos" / "cat.jpg").read_bytes()


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


@pytest.fixture(autouse=True)
def _pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the global back that each transform sets for itself."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def config(size: int = 48, **parameters: str) -> dict[str, Any]:
    return {"output": [{"name": "pixels", "dims": [3, size, size]}], "parameters": parameters}


def reason(data: bytes, **options: Any) -> str:
    with pytest.raises(preprocess.InvalidImage) as caught:
        pixels(data, **options)
    return str(caught.value)


def encodings() -> dict[str, bytes]:
    """The photograph in every format that Pillow writes."""
    photo = Image.open(io.BytesIO(PHOTO)).resize((90, 60))
    kinds = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "QOI"]
    options: dict[str, dict[str, Any]] = {"AVIF": {"speed": 10}}
    files = {kind: encode(photo, kind, **options.get(kind, {})) for kind in kinds}
    files["TIFF lzw"] = encode(photo, "TIFF", compression="tiff_lzw")
    files["JPEG progressive"] = encode(photo, "JPEG", progressive=True)
    files["ICO"] = encode(photo.resize((64, 64)), "ICO", sizes=[(64, 64)])
    return files


ENCODINGS = encodings()


@pytest.mark.parametrize("kind", ENCODINGS)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_files(kind: str, share: float) -> None:
    text = reason(ENCODINGS[kind][: int(len(ENCODINGS[kind]) * share)])
    assert "truncated" in text
    assert kind.split()[0] in text


def test_the_commonest_case_reads_well() -> None:
    assert reason(PHOTO[:20000]).startswith("truncated JPEG: image file is truncated")


@pytest.mark.parametrize("kind", ENCODINGS)
def test_no_damage_escapes(kind: str) -> None:
    """Cut anywhere, or with bytes overwritten: a row or an InvalidImage, nothing else."""
    data, rng = ENCODINGS[kind], random.Random(kind)
    preprocessor = preprocess.Preprocessor((48, 48), max_image_pixels=1_000_000)
    row = np.empty((3, 48, 48), np.uint8)
    refused = 0
    for attempt in range(120):
        damaged = bytearray(data)
        if attempt % 3 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        for _ in range(rng.randint(1, 6)):
            if damaged:
                damaged[min(int(rng.expovariate(0.01)), len(damaged) - 1)] = rng.randrange(256)
        try:
            preprocessor.fill(row, bytes(damaged))
        except preprocess.InvalidImage:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty: no bytes"),
        (b"\0" * 100, "unknown image format: it starts with 00 00 00 00 00 00 00 00"),
        (b"https://example.org/cat.jpg", "(a URL: send what is there): it starts with 'https://example.org/"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text, not the bytes of an image file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "unreadable PNG header: truncated, damaged or of zero size"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"P6 0 5 255\n", "PPM"),
        (png(0, 5, 8, 2, b""), "unreadable PNG header: truncated, damaged or of zero size"),
        (png(5, 0, 8, 2, b""), "unreadable PNG header: truncated, damaged or of zero size"),
    ],
)
def test_what_is_no_image_says_so(data: bytes, expected: str) -> None:
    assert expected in reason(data)


def test_bytes_are_counted_first() -> None:
    assert reason(b"x" * 101, max_image_bytes=100) == "101 bytes, more than the limit of 100"
    assert pixels(PHOTO, max_image_bytes=len(PHOTO)).any()


def test_pixels_are_counted_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(image: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    bomb = png(60000, 50000, 1, 0, b"")
    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    assert reason(bomb) == "60000x50000 is more pixels than the limit of 100000000"
    small = encode(Image.new("L", (40, 26)), "PNG")
    assert reason(small, max_image_pixels=1039) == "40x26 is more pixels than the limit of 1039"


def test_the_pixel_limit_itself_is_allowed_and_silent() -> None:
    data = encode(Image.new("L", (40, 26)), "PNG")
    with warnings.catch_warnings(record=True) as caught:
        load_module(FOLDER / "preprocess.py").Preprocessor((48, 48), max_image_pixels=1040).fill(
            np.empty((3, 48, 48), np.uint8), data
        )
    assert not caught


def test_large_images_are_allowed_up_to_our_limit_not_pillows() -> None:
    data = encode(Image.new("1", (10_000, 9_999)), "PNG")
    assert not pixels(data).any()
    assert reason(data, max_image_pixels=99_989_999).startswith("10000x9999 is more pixels than")


def test_rows_that_pillow_cannot_hand_over() -> None:
    assert reason(png(67_108_864, 1, 1, 0, b"")) == "67108864 pixels wide, more than the limit of 67108863"


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("size", [(4_000_000, 1), (1, 4_000_000)])
def test_a_very_long_image_does_not_fill_memory(size: tuple[int, int], mode: str) -> None:
    """A file of a few kilobytes; resized at once, the windows and columns of its long side are 320 MB."""
    data = encode(Image.new("1", size, 1), "PNG")
    tracemalloc.start()
    try:
        assert (pixels(data, resize_mode=mode) == 255).all()
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_a_bomb_inside_an_icon() -> None:
    """The directory says 16x16, the PNG inside says otherwise."""
    inner = encode(Image.new("1", (3000, 2000)), "PNG")
    directory = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    assert reason(directory + inner, max_image_pixels=5_999_999).endswith("limit of 5999999")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_the_limit_holds_for_formats_that_prepare_on_opening(kind: str) -> None:
    data = encode(Image.new("RGB", (300, 200)), kind)
    assert "more" in reason(data, max_image_pixels=20_000)
    assert pixels(data, max_image_pixels=60_000).shape == (3, 48, 48)


def test_one_limit_does_not_leak_into_another() -> None:
    data = encode(Image.new("L", (40, 26)), "PNG")
    reason(data, max_image_pixels=10)
    assert pixels(data).shape == (3, 48, 48)


def test_configuration() -> None:
    given = config(
        64,
        resize_mode="longest",
        interpolation="bilinear",
        resize="pillow",
        fill_color="114",
        max_image_bytes="1000",
        max_image_pixels="2000",
        reduced_decoding="false",
        max_decode_milliseconds="3000",
        max_decode_bytes="4000000000",
        FORCE_CPU_ONLY_INPUT_TENSORS="yes",  # Triton's own, for any model of its Python backend
    )
    read = preprocess.Preprocessor.from_config(json.loads(json_text(given)))
    assert read == preprocess.Preprocessor(
        (64, 64), "longest", "bilinear", "pillow", 114, 1000, 2000, False, 3000, 4_000_000_000
    )
    assert preprocess.Preprocessor.from_config(json.loads(json_text(config(64)))) == preprocess.Preprocessor((64, 64))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (config(resize_mode="stretch"), "parameter resize_mode: 'stretch' is not one of shortest, squash, longest"),
        (config(interpolation="nearest"), "parameter interpolation: 'nearest'"),
        (config(resize="opencv"), "parameter resize: 'opencv' is not one of compiled, pillow"),
        (config(reduced_decoding="yes"), "parameter reduced_decoding: 'yes' is not one of true, false"),
        (config(fill_color="256"), "parameter fill_color: '256' is not a whole number from 0 to 255"),
        (config(max_image_bytes="-1"), "parameter max_image_bytes: '-1' is not a whole number from 1 to"),
        (config(max_image_pixels="1e8"), "parameter max_image_pixels: '1e8'"),
        (config(max_decode_milliseconds="0"), "parameter max_decode_milliseconds: '0' is not a whole number from 1 to"),
        (config(max_decode_bytes="512M"), "parameter max_decode_bytes: '512M'"),
        (config(max_pixels="9"), "parameter max_pixels: not one of fill_color, interpolation, max_decode_bytes, "),
        (config(Resize_mode="shortest"), "parameter Resize_mode: not one of fill_color, "),
        (config(size=-1), "output pixels"),
    ],
)
def test_unknown_values_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocess.Preprocessor.from_config(json.loads(json_text(given)))


def test_the_adapter_answers_each_request() -> None:
    """One batch: good requests get exactly what they would get alone, and each bad one gets its own reason."""
    model = load_model(FOLDER / "model.py", config())
    grey = encode(Image.new("L", (9, 9), 77), "PNG")
    responses = model.execute(
        [
            request("image", [PHOTO, grey]),
            request("image", [grey, PHOTO, PHOTO, PHOTO[:9000]]),
            request("image", [b""]),
            request("image", [grey]),
        ]
    )
    first, cut, empty, last = responses
    assert first.output_tensors[0].name == "pixels"
    assert first.output_tensors[0].values.dtype == np.uint8
    assert first.output_tensors[0].values.shape == (2, 3, 48, 48)
    np.testing.assert_array_equal(first.output_tensors[0].values, np.stack([pixels(PHOTO), pixels(grey)]))
    np.testing.assert_array_equal(last.output_tensors[0].values, pixels(grey)[None])
    assert (cut.error.code, cut.output_tensors) == ("INVALID_ARG", [])
    assert cut.error.message.startswith("image 3: truncated JPEG: image file is truncated")
    assert (empty.error.code, empty.error.message) == ("INVALID_ARG", "image 0: empty: no bytes")
    # One array for the whole batch, not one a request.
    assert first.output_tensors[0].values.base is last.output_tensors[0].values.base is not None


def test_the_adapter_survives_its_own_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(FOLDER / "model.py", config())
    fill = type(model.preprocessor).fill

    def broken(self: Any, row: Any, data: bytes) -> None:
        if data == b"bug":
            raise RuntimeError("a fault")
        fill(self, row, data)

    monkeypatch.setattr(type(model.preprocessor), "fill", broken)
    failed, fine = model.execute([request("image", [PHOTO, b"bug"]), request("image", [PHOTO])])
    assert (failed.error.code, failed.error.message) == ("INTERNAL", "image 1: RuntimeError while preprocessing")
    np.testing.assert_array_equal(fine.output_tensors[0].values, pixels(PHOTO)[None])
    logger = type(model).execute.__globals__["pb_utils"].Logger
    assert "a fault" in logger.errors[0]


def test_the_adapter_refuses_to_load_with_an_unknown_value() -> None:
    with pytest.raises(ValueError, match="resize_mode"):
        load_model(FOLDER / "model.py", config(resize_mode="stretch"))


def test_no_format_that_runs_programs_or_has_no_signature() -> None:
    module = load_module(FOLDER / "preprocess.py")
    assert {"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"} <= set(module.FORMATS)
    assert not {"EPS", "WMF", "TGA", "FITS", "PCD", "MPEG"} & set(module.FORMATS)
    assert all(Image.OPEN[name][1] for name in module.FORMATS)
