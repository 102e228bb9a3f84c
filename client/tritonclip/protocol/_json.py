"""JSON from a server, which may be anything: every way in which it cannot be read is a ValueError."""

import json
from typing import Any


def parse_json(text: bytes | str) -> Any:
    """The document; ValueError where it is none, is nested too deeply, or holds NaN or an infinity."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None  # its traceback is a thousand times the same line


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
