"""`keeper [IDENTITY FOLDER]`, a program: leads a process group, and ends it when its launcher is gone.

    launcher ──holds a pipe open──> keeper: reads until the pipe ends ──SIGTERM, then SIGKILL──> its whole group

However the launcher dies, the kernel closes its pipe. Triton's model processes would else outlive it: nothing tells
them, and one that is loading its model looks at nobody. What the server left on this machine, the keeper removes.
"""

import os
import signal
import sys
import time
from pathlib import Path

from tritonclip_server.embedded.claim import remove

GRACE_SECONDS = 3.0  # for what has begun


def main(arguments: list[str]) -> None:
    """Wait for the end of standard input, and then end this process's group."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    group = os.getpgrp()
    os.killpg(group, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    if arguments:
        identity, folder = arguments
        remove(identity, Path(folder))
    os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
