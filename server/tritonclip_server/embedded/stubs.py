"""The processes of Triton's Python models, which it calls stubs."""

import contextlib

import psutil


def instances(triton: int) -> dict[psutil.Process, str]:
    """The model processes of a server with what each runs, such as image_encoder_0_0: its last argument but one."""
    found: dict[psutil.Process, str] = {}
    with contextlib.suppress(psutil.NoSuchProcess):  # Triton has died: its own end will be noticed
        for stub in psutil.Process(triton).children():
            try:
                found[stub] = stub.cmdline()[-2]
            except (psutil.Error, IndexError):  # it has died: that will be noticed too
                found[stub] = f"a model (process {stub.pid})"
    return found


def is_dead(process: psutil.Process) -> bool:
    """Whether a process is gone, or is a zombie that Triton has not noticed."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
