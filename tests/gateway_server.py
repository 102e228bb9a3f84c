"""Gateways that really listen: an application in a thread, and the command in a process of its own."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI

from tritonclip_server.gateway.http.connection_limits import ConnectionTimeouts
from tritonclip_server.gateway.http.server import make_server
from tritonclip_server.gateway.settings import Limits

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def listening(app: FastAPI, limits: Limits = Limits(), timeouts: ConnectionTimeouts | None = None) -> Iterator[str]:  # noqa: B008
    """Serve an application on a free loopback port; gives its URL, and stops it. It queues requests from the start."""
    server = make_server(app, limits, timeouts)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


class GatewayProcess:
    """`tritonclip-server gateway` on a free port; `url` once it listens, `said` what it printed on stderr so far.

    With `fake` it is tests.fake_gateway, whose images take so many seconds, or until there is such a file.
    `descriptors` are those it may have open.
    """

    def __init__(self, *arguments: str, fake: float | Path | None = None, descriptors: int | None = None) -> None:
        program = ["tritonclip_server", "gateway"] if fake is None else ["tests.fake_gateway", str(fake)]
        limit = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}:{descriptors}"]
        self.process = subprocess.Popen(
            [*limit, sys.executable, "-m", *program, "--port", "0", *arguments],
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if not key.startswith("TRITONCLIP")},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        self.url = ""
        listening = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(listening,), daemon=True)
        self._reader.start()
        listening.wait(60)
        assert self.url, f"the gateway did not start:\n{self.said}"

    def stop(self) -> None:
        """End it as a supervisor would."""
        self.process.terminate()
        self.process.wait(60)
        self._reader.join(60)

    def _read(self, listening: threading.Event) -> None:
        """Take in all it says, for a full pipe would stop it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if line.startswith("gateway: http"):
                self.url = line.split()[-1]
                listening.set()
        listening.set()
