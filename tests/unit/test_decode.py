"""image_preprocess: what decoding leaves to the process around it: memory, its log, the code that is compiled."""

import json
import os
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.image_files import encode, grey_jpeg, icon, png, png_chunk, tiff
from tests.modules import MODELS, REPOSITORY, load_model, request
from tests.unit.test_preprocess import pixels, preprocess
from tests.unit.test_preprocess_limits import config

FOLDER = MODELS / "image_preprocess" / "1"
with Image.open(REPOSITORY / "samples" / "photos" / "coffee.jpg") as file:
    PHOTO = file.resize((1500, 1000))
SMALL = PHOTO.resize((60, 40))


def run(program: str, standard_input: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(FOLDER), **environment}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=variables, input=standard_input, capture_output=True, text=True)


def test_without_a_place_for_a_cache_the_resize_is_compiled_all_the_same() -> None:
    """As in a container whose models and home cannot be written."""
    program = "import numpy, resample\nprint(resample.resample(numpy.zeros((9, 7), numpy.uint32), "
    program += "resample.Axis(7, 7, 5, 0, 5), resample.Axis(9, 9, 4, 0, 4), vertical_first=False, cubic=True).shape)"
    result = run(program, NUMBA_CACHE_LOCATOR_CLASSES="ZipCacheLocator")
    assert (result.returncode, result.stdout) == (0, "(4, 5)\n"), result.stderr


# Each file is decoded in a child process that may have so many more bytes; what came of it is counted.
SHORT_OF_MEMORY = """
import collections, json, os, resource, sys
import numpy as np
from preprocess import InvalidImage, OutOfMemory, Preprocessor

preprocessor, row = Preprocessor((48, 48), reduced_decoding=False), np.zeros((3, 48, 48), np.uint8)
preprocessor.fill(row, bytes.fromhex(sys.stdin.readline()))

def outcome(data, more):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more, size + more))
    try:
        preprocessor.fill(row, data)
        return "decoded"
    except (OutOfMemory, MemoryError):
        return "out of memory"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

for line in sys.stdin:
    kind, data = json.loads(line)
    found = set()
    for more in (100_000, 2_000_000, 5_000_000, 9_000_000, 15_000_000, 400_000_000):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, outcome(bytes.fromhex(data), more).encode())
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        found.add(f"ended with {status}" if status else os.read(reader, 1000).decode())
    print(json.dumps([kind, sorted(found)]))
"""


def test_too_little_memory_is_never_called_damage() -> None:
    """Decoders report it in many ways, or not at all."""
    files = {kind: encode(PHOTO, kind) for kind in ("JPEG", "BMP", "PPM")}
    files["PNG"] = encode(PHOTO, "PNG", compress_level=1)
    files["WEBP"] = encode(PHOTO, "WEBP", method=0)
    files["TIFF"] = encode(PHOTO, "TIFF", compression="tiff_lzw")
    files["JPEG2000"] = encode(PHOTO, "JPEG2000", irreversible=True, quality_layers=[50])
    files["AVIF"] = encode(PHOTO, "AVIF", speed=10)
    files["progressive JPEG"] = encode(PHOTO, "JPEG", progressive=True)
    files["unusual JPEG"] = grey_jpeg(1500, 1000, (0x31, 0x11, 0x11))
    files["GIF"] = encode(PHOTO.quantize(64), "GIF")
    files["ICO"] = icon(files["PNG"])
    for compression in ("tiff_deflate", "zstd", "lzma", "jpeg"):
        files[f"TIFF {compression}"] = encode(PHOTO, "TIFF", compression=compression)
    lines = [encode(SMALL, "PNG").hex(), *(json.dumps([kind, data.hex()]) for kind, data in files.items())]
    result = run(SHORT_OF_MEMORY, "\n".join(lines))
    found = dict(json.loads(line) for line in result.stdout.splitlines())
    assert found.keys() == files.keys(), result.stderr
    assert {outcome for outcomes in found.values() for outcome in outcomes} == {"decoded", "out of memory"}
    assert all("decoded" in outcomes for outcomes in found.values())
    assert sum("out of memory" in outcomes for outcomes in found.values()) > len(found) // 2


@pytest.mark.parametrize("shortage", ["OutOfMemory", "MemoryError"])
def test_the_adapter_asks_to_try_again(shortage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(FOLDER / "model.py", config())
    errors = type(model).execute.__globals__
    error = errors.get(shortage, MemoryError)
    fill = type(model.preprocessor).fill

    def short(self: Any, row: Any, data: bytes) -> None:
        if data == b"large":
            raise error
        fill(self, row, data)

    monkeypatch.setattr(type(model.preprocessor), "fill", short)
    good = encode(SMALL, "PNG")
    failed, fine = model.execute([request("image", [good, b"large"]), request("image", [good])])
    assert (failed.error.code, failed.error.message) == ("UNAVAILABLE", "image 1: out of memory, try again")
    assert fine.error is None


def test_the_adapter_has_no_memory_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(FOLDER / "model.py", config())

    def empty(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("numpy.empty", empty)
    responses = model.execute([request("image", [b"a"]), request("image", [b"b"])])
    assert [response.error.code for response in responses] == ["UNAVAILABLE", "UNAVAILABLE"]
    assert responses[0].error is not responses[1].error, (
        "one error object for several responses is freed with the first"
    )


QUIETLY = """
import json, sys
import numpy as np
from preprocess import InvalidImage, Preprocessor

preprocessor, row, refused = Preprocessor((48, 48)), np.zeros((3, 48, 48), np.uint8), 0
for line in sys.stdin:
    try:
        preprocessor.fill(row, bytes.fromhex(line))
    except InvalidImage:
        refused += 1
print(refused)
"""


def test_callers_files_write_nothing_into_the_log() -> None:
    """Nor do warnings about them: Pillow's are Python's, libtiff's go to the standard error by themselves."""
    samples = SMALL.tobytes()
    files = [
        tiff(60, 40, samples, [8] * 3, 2, tags={34665: (4, [0xFFFFFFF0]), 282: (5, bytes(8)), 65000: (99, b"abc")}),
        tiff(60, 40, samples, [8] * 3, 2, tags={282: (2, b"x" * 20), 700: (7, b"\xff" * 50)})[:-9],
        icon(encode(SMALL, "PNG"), sides=(16,)),
        encode(SMALL, "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01\x03\0\x01\0"),
    ]
    broken = [
        tiff(60, 40, zlib.compress(samples)[:-900], [8] * 3, 2, tags={259: (3, [8])}),
        tiff(60, 40, bytes(range(200)), [8] * 3, 2, tags={259: (3, [5])}),
        tiff(60, 40, bytes(range(256)), [8] * 3, 2, tags={259: (3, [7])}),
        tiff(60, 40, b"\xaa" * 99, [1], 0, tags={259: (3, [4])}),
        encode(SMALL, "JPEG")[:900],
    ]
    result = run(QUIETLY, "".join(data.hex() + "\n" for data in (*files, *broken)))
    assert (result.stdout, result.stderr) == (f"{len(broken)}\n", "")


def rows_of_png(file: NDArray[np.uint8], *, interlaced: bool) -> bytes:
    """Rows with their filter bytes, of the whole image or of the seven passes of Adam7."""
    whole = ((0, 0, 1, 1),)
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    passes = [file[top::down, left::across] for left, top, across, down in (adam7 if interlaced else whole)]
    return b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)


@pytest.mark.parametrize("level", [0, 200])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("width", "height"), [(9, 60), (9, 61), (1, 2), (3, 1)])
def test_a_png_of_fewer_rows_than_it_says(width: int, height: int, interlaced: bool, level: int) -> None:
    """Compressed pixels that end well-formed between two rows: Pillow leaves the rest black. Black itself is whole."""
    rows = rows_of_png(np.full((height, width, 3), level, np.uint8), interlaced=interlaced)
    row = 1 + 3 * width

    def written(body: bytes) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, int(interlaced))
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, content) for name, content in chunks)

    assert (pixels(written(rows)) == level).all()
    for missing in [4] if height == 1 else range(row, min(len(rows), 5 * row), row):  # 4: a pass of one pixel
        with pytest.raises(preprocess.InvalidImage, match="truncated PNG"):
            pixels(written(rows[:-missing]))


def test_a_png_of_indices_without_a_palette() -> None:
    with pytest.raises(preprocess.InvalidImage, match="damaged or truncated PNG: it has no palette"):
        pixels(png(9, 9, 8, 3, bytes(81)))


def test_a_fax_of_bad_code_words_is_not_filled_up() -> None:
    """libtiff says so, and goes on with the next row; the reason is its own."""
    data = encode(PHOTO.resize((200, 100)).convert("1"), "TIFF", compression="group4")
    strip = data.index(b"II*\0") + 8
    broken = data[: strip + 300] + b"\xff\x00\xf0" * 5 + data[strip + 315 :]
    result = run(QUIETLY, "".join(each.hex() + "\n" for each in (data, broken)))
    assert (result.stdout, result.stderr) == ("1\n", "")
