"""Starts a program with arguments that no list of processes shows.

    argv: [tritonserver, --http-port=8000, *]     environment: TRITONCLIP_HIDDEN_0=--http-restricted-api=…:admin-key=KEY
                                           └────────────────────────────────────────^

Triton takes its keys as arguments alone, and everybody on a machine can read those of all processes: the kernel shows
the stretch of memory that they were copied to. A program goes by the pointers to them instead. So a hidden argument
travels in the environment, which only the process's own user can read, and once the program is in memory, before its
first instruction, the pointer to its placeholder is set to it. That takes tracing, which a few systems forbid; there
the argument is passed openly, with a warning.

Linux with 64 bits. Runs in any Python 3 without packages: the production container has this file beside start_triton.
"""

import ctypes
import os
import signal
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_TRACEME, _CONTINUE, _DETACH = 0, 7, 17  # of ptrace(2)
_STACK, _ENVIRONMENT, _ENVIRONMENT_END = 28 - 3, 50 - 3, 51 - 3  # fields of /proc/PID/stat after the name, see proc(5)
_POINTER = struct.calcsize("N")
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded here: between fork and exec there must be no import and no lock
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_LIBC.ptrace.restype = ctypes.c_long


def start(
    command: Sequence[str],
    hidden: Sequence[str],
    environment: Mapping[str, str],
    warn: Callable[[str], object],
    **options: Any,
) -> "subprocess.Popen[bytes]":
    """Start `command` with the `hidden` arguments after its own; `options` are those of subprocess.Popen."""
    if not hidden:
        return subprocess.Popen(command, env=environment, **options)
    try:
        return _start_hidden(command, hidden, environment, **options)
    except (OSError, subprocess.SubprocessError) as error:
        process = subprocess.Popen([*command, *hidden], env=environment, **options)
        warn(f"warning: everybody on this machine can read the keys in Triton's arguments: no tracing here ({error})")
        return process


def _start_hidden(
    command: Sequence[str], hidden: Sequence[str], environment: Mapping[str, str], **options: Any
) -> "subprocess.Popen[bytes]":
    variables = {f"TRITONCLIP_HIDDEN_{number}": argument for number, argument in enumerate(hidden)}
    process = subprocess.Popen(
        [*command, *variables], env={**environment, **variables}, preexec_fn=_ask_to_be_traced, **options
    )
    try:
        _wait_for_exec(process.pid)
        _point_at_variables(process.pid, list(variables))
        _ptrace(_DETACH, process.pid)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def _ask_to_be_traced() -> None:
    _ptrace(_TRACEME, 0)


def _wait_for_exec(pid: int) -> None:
    """Return once the traced process has stopped at its program's beginning."""
    while True:
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            raise OSError(f"it ended at once, with status {status}")
        if os.WSTOPSIG(status) == signal.SIGTRAP:
            return
        _ptrace(_CONTINUE, pid, os.WSTOPSIG(status))  # a signal that came meanwhile


def _point_at_variables(pid: int, names: Sequence[str]) -> None:
    """Set the last pointers of a stopped process's argv to the values of its environment variables of these names."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    stack, first, end = (int(fields[index]) for index in (_STACK, _ENVIRONMENT, _ENVIRONMENT_END))
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(stack)  # there lies argc, and argv after it
        (count,) = struct.unpack("N", memory.read(_POINTER))
        memory.seek(first)
        variables = b"\0" + memory.read(end - first)
        for position, name in enumerate(names, start=count - len(names)):
            marker = b"\0" + os.fsencode(name) + b"="
            value = first - 1 + variables.index(marker) + len(marker)
            memory.seek(stack + _POINTER * (1 + position))
            memory.write(struct.pack("N", value))


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _LIBC.ptrace(request, pid, None, data) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace: {os.strerror(ctypes.get_errno())}")
