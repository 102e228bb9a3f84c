"""An image whose server waits with its answer: whoever asks for it is held at a known point."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class HeldImage:
    """``asked`` is set once it is asked for; the answer comes when ``answer`` is."""

    url: str
    asked: threading.Event = field(default_factory=threading.Event)
    answer: threading.Event = field(default_factory=threading.Event)


@contextmanager
def held_image(content: bytes) -> Iterator[HeldImage]:
    """Serve one on a free loopback port."""
    held = HeldImage("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            held.asked.set()
            held.answer.wait(60)
            with suppress(ConnectionError):  # whoever asked may have been killed
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        held.url = f"http://127.0.0.1:{server.server_port}/held.jpg"
        try:
            yield held
        finally:
            held.answer.set()
            server.shutdown()
