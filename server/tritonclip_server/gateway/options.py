"""Options that the commands `gateway` and `keys` share."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

MOST = 10**12  # of anything: more would be a slip


def add_keys_option(command: argparse.ArgumentParser) -> None:
    """Add `--keys FILE`, by default what TRITONCLIP_KEYS names."""
    keys = os.environ.get("TRITONCLIP_KEYS")
    command.add_argument(
        "--keys",
        type=Path,
        default=Path(keys) if keys else None,
        metavar="FILE",
        help="the file of API keys (default: TRITONCLIP_KEYS; none: no key is asked for, and only loopback is served)",
    )


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A parser of numbers of a kind that are more than 0, for argparse's `type`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not 0 < value <= MOST:
            raise argparse.ArgumentTypeError(f"{text} is not more than 0, or too much")
        return value

    return parse
