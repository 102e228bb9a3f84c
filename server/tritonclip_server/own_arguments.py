"""Secrets among this process's own arguments, which everybody on the machine can read in a list of processes."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

_SECRETS = "--admin"  # whatever begins so is --admin-key: argparse takes shorter forms
_FIRST_ARGUMENT, _ARGUMENTS_END = 48 - 3, 49 - 3  # fields of /proc/PID/stat after the name, see proc(5)


def hide_secrets(arguments: Sequence[str]) -> None:
    """Overwrite the keys that were given, on Linux; they stay readable for as long as Python takes to start."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument.startswith(_SECRETS):
            _, is_joined, value = argument.partition("=")
            if secret := value if is_joined else following:
                _hide(secret)


def _hide(secret: str) -> None:
    hidden = os.fsencode(secret)
    with contextlib.suppress(OSError), open("/proc/self/mem", "r+b", buffering=0) as memory:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()
        start, end = int(fields[_FIRST_ARGUMENT]), int(fields[_ARGUMENTS_END])
        memory.seek(start)
        arguments = memory.read(end - start).split(b"\0")
        for number, argument in enumerate(arguments):
            if argument == hidden or argument.endswith(b"=" + hidden):
                arguments[number] = argument.removesuffix(hidden) + b"*" * len(hidden)
        memory.seek(start)
        memory.write(b"\0".join(arguments))
