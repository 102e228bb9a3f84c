"""Image files to RGB images, by the code that will read them when the model is served.

It lies in model_repository/image_preprocess/1: upright, transparency over white, HEIC too, and a reason for each file
that is refused (docs/images.md). What training sees is thus what the served model will see.
"""

import importlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from tritonclip_server.finetune.errors import Unreadable
from tritonclip_server.resources import MODEL_REPOSITORY

CODE = MODEL_REPOSITORY / "image_preprocess" / "1"


def read_image(path: Path) -> Image.Image:
    """The image in mode RGB, or CMYK where it is so: open_clip's transforms convert that after they resized it.

    Raises Unreadable.
    """
    decoder = _decoder()
    try:
        pixels, is_cmyk = decoder.decode(decoder.read(path.read_bytes()))
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except (decoder.InvalidImage, decoder.OutOfMemory) as error:
        raise Unreadable(str(error)) from error
    height, width = pixels.shape
    mode, layout = ("CMYK", "CMYK") if is_cmyk else ("RGB", "RGBX")
    return Image.frombytes(mode, (width, height), pixels.tobytes(), "raw", layout)


@cache
def _decoder() -> Any:
    sys.path.insert(0, str(CODE))  # as Triton has it: the file imports those beside it
    try:
        return importlib.import_module("decode")
    finally:
        sys.path.remove(str(CODE))
