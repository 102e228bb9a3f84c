"""What may stand for an image, and what arrives at the server."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tritonclip import Client, InputError
from tritonclip.testing import FakeServer

RNG = np.random.default_rng(0)


def sent(fake: FakeServer, image: Any) -> bytes:
    """The bytes that the server gets for one image."""
    with Client(transport=fake.transport()) as client:
        assert len(client.embed_images(image)) == 1
    (item,) = fake.requests("embed_image")[-1].inputs[0].items()
    return item


def pixels(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    image.load()
    return image


def test_encoded_bytes_are_sent_as_they_are(fake: FakeServer, tmp_path: Path) -> None:
    data = b"\xff\xd8 whatever this is"
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with path.open("rb") as file:
        for image in (data, bytearray(data), memoryview(data), path, str(path), file, io.BytesIO(data)):
            assert sent(fake, image) == data


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4), (1, 1, 3)])
def test_arrays_arrive_unchanged(shape: tuple[int, ...], fake: FakeServer) -> None:
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(pixels(sent(fake, array))), array)
    np.testing.assert_array_equal(np.asarray(pixels(sent(fake, array[::-1, ::-1]))), array[::-1, ::-1])


def test_an_array_with_a_batch_axis_is_several_images(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        assert len(client.embed_images(np.zeros((4, 2, 2, 3), np.uint8))) == 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pil_images_lose_nothing(mode: str, fake: FakeServer) -> None:
    if mode == "I;16":
        image = Image.fromarray(RNG.integers(0, 2**16, (6, 5), dtype=np.uint16))
    else:
        image = Image.fromarray(RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)).convert(mode)
    arrived = pixels(sent(fake, image))
    assert arrived.mode == mode
    assert arrived.tobytes() == image.tobytes()


def test_colours_that_png_lacks_become_rgb(fake: FakeServer) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8), "CMYK")
    np.testing.assert_array_equal(np.asarray(pixels(sent(fake, image))), np.asarray(image.convert("RGB")))


def test_the_orientation_goes_along_and_nothing_else(fake: FakeServer) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "the camera's maker"
    buffer = io.BytesIO()
    Image.new("RGB", (4, 2), "red").save(buffer, "JPEG", exif=exif)
    arrived = pixels(sent(fake, Image.open(buffer)))
    assert dict(arrived.getexif()) == {0x0112: 6}
    assert not pixels(sent(fake, Image.new("RGB", (4, 2)))).getexif()


def cut_short() -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return Image.open(io.BytesIO(buffer.getvalue()[:900]))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (None, "got NoneType"),
        (7, "got int"),
        ("/no/such/file", "No such file or directory"),
        ("/", "Is a directory"),
        ("nul\0byte", "null byte"),
        (io.StringIO("text"), "binary mode"),
        (np.zeros((4, 4, 3), np.float32), "got float32 of 4x4x3"),
        (np.zeros((4, 4, 2), np.uint8), "got uint8 of 4x4x2"),
        (np.zeros((0, 4, 3), np.uint8), "got uint8 of 0x4x3"),
        (np.zeros(4, np.uint8), "got uint8 of 4"),
        (np.array(4, np.uint8), "got uint8 of no axis"),
        (Image.new("F", (2, 2)), "mode F"),
        (cut_short(), "truncated"),
    ],
)
def test_images_that_cannot_be_used(image: Any, reason: str, fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        with pytest.raises(InputError, match=reason) as caught:
            client.embed_images([b"good", image])
        assert caught.value.index == 1
        result = client.embed_images([image, b"good"], on_error="return")
        assert list(result.errors) == [0]
        assert np.isfinite(result.features[1]).all()


@pytest.mark.parametrize(("text", "reason"), [(b"bytes", "got bytes"), (None, "got NoneType"), ("\ud800", "Unicode")])
def test_texts_that_cannot_be_used(text: Any, reason: str, fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        result = client.embed_texts(["good", text], on_error="return")
        assert list(result.errors) == [1]
        assert reason in str(result.errors[1])
        with pytest.raises(InputError, match="text 1"):
            client.compare(b"image", ["good", text], on_error="return")


def test_one_string_is_one_text(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        assert client.embed_texts("a cat").features.shape == (1, 16)


def test_an_empty_file_is_the_servers_to_refuse(fake: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with Client(transport=fake.transport()) as client, pytest.raises(InputError, match="cannot identify"):
        client.embed_images(tmp_path / "empty.png")
    assert len(fake.requests("embed_image")) == 1
