"""`--index NAME=URI`: what is served by which name, opened before the gateway listens."""

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tritonclip import ConfigError

if TYPE_CHECKING:
    from tritonclip.search import Index

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)  # it is a step of a path


def named_uri(text: str) -> tuple[str, str]:
    """The name and the place that an option holds, for argparse's `type`."""
    name, sign, uri = text.partition("=")
    if not (sign and uri and _NAME.fullmatch(name)):
        message = f"{text!r} is not NAME=URI, where NAME has letters, digits, '.', '_' and '-', 64 at most"
        raise argparse.ArgumentTypeError(message)
    return name, uri


def open_indexes(uris: Sequence[tuple[str, str]]) -> "dict[str, Index]":
    """The indexes at these places by their names.

    ConfigError says which one is not there or is named twice, or that what reads them is not installed;
    StorageError that one cannot be read.
    """
    if not uris:
        return {}
    try:
        from tritonclip.search import Index  # with a store of 300 MB, which only they need who search
    except ImportError as error:
        message = f'--index needs what `pip install "tritonclip[search]"` brings ({error})'
        raise ConfigError(message) from error
    opened: dict[str, Index] = {}
    for name, uri in uris:
        if name in opened:
            raise ConfigError(f"--index {name}: there are two of this name")
        opened[name] = Index.open(uri)
    return opened
