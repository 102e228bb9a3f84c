"""Images and sentences, from what stands on the command line.

Names are resolved at once, so that a glob which matches nothing is known before a request is sent. Contents are read
when their turn comes: an image that cannot be had is then one failed item, like one that the server refuses.
"""

import glob
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclip._fetch import Remote
from tritonclip._text_files import split_lines
from tritonclip.cli._usage import UsageError


@dataclass(frozen=True)
class Named:
    """An image with the name that the user knows it by; ``item`` is what the client takes."""

    name: str
    item: Any


def find_images(names: Iterable[str]) -> list[Named]:
    """The images that arguments stand for: paths, globs, URLs, and ``-`` for standard input (once)."""
    names = list(names)
    if names.count("-") > 1:
        raise UsageError("standard input holds one image: give - once")
    images: list[Named] = []
    for name in names:
        if name == "-":
            images.append(Named(name, sys.stdin.buffer.read()))
        elif name.lower().startswith(("http://", "https://")):
            images.append(Named(name, Remote(name)))
        else:
            images += (Named(path, Path(path)) for path in _paths(name))
    return images


def _paths(name: str) -> list[str]:
    # A file may well be called "photo[1].jpg".
    if not glob.has_magic(name) or os.path.lexists(name):
        return [name]
    paths = sorted(path for path in glob.glob(name, recursive=True) if not os.path.isdir(path))
    if not paths:
        raise UsageError(f"no file matches {name!r}")
    return paths


def read_lines(path: str) -> list[str]:
    """The lines of a UTF-8 file (``-``: standard input) that are not blank."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        lines = split_lines(data.decode("utf-8-sig"))
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path} is not UTF-8 text") from exc
    return [line for line in lines if line.strip()]
