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

import httpx

from tritonclip import _defaults
from tritonclip.cli._usage import UsageError


@dataclass(frozen=True)
class Named:
    """An image with the name that the user knows it by; ``item`` is what the client takes."""

    name: str
    item: Any


class Remote:
    """An image at a URL, as a file: fetched when it is read."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self) -> bytes:
        """Fetch it; whatever goes wrong is an OSError, as it is for files."""
        limit = _defaults.FETCH_MAX_BYTES
        data = bytearray()
        try:
            with httpx.stream("GET", self._url, follow_redirects=True, timeout=_defaults.FETCH_TIMEOUT) as response:
                if response.status_code != httpx.codes.OK:
                    raise OSError(f"HTTP {response.status_code} from {self._url}")
                for part in response.iter_bytes():
                    data += part
                    if len(data) > limit:
                        raise OSError(f"more than {limit // 2**20} MiB at {self._url}")
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise OSError(f"cannot fetch {self._url}: {exc}") from exc
        return bytes(data)


def find_images(names: Iterable[str]) -> list[Named]:
    """The images that arguments stand for: paths, globs, URLs, and ``-`` for standard input (once)."""
    names = list(names)
    if names.count("-") > 1:
        raise UsageError("standard input holds one image: give - once")
    images: list[Named] = []
    for name in names:
        if name == "-":
            images.append(Named(name, sys.stdin.buffer.read()))
        elif name.startswith(("http://", "https://")):
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
        lines = data.decode("utf-8-sig").splitlines()
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path} is not UTF-8 text") from exc
    return [line for line in lines if line.strip()]
