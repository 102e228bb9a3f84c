"""Where the ``tritonclip`` command has its images and sentences from: paths, globs, standard input, URLs."""

import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.client.conftest import Command
from tritonclip import _defaults
from tritonclip.testing import features_of


def test_globs(command: Command, photos: Path) -> None:
    (photos / "deep" / "er").mkdir(parents=True)
    (photos / "deep" / "er" / "owl.jpg").write_bytes(b"owl")
    (photos / "odd[1].jpg").write_bytes(b"odd")
    assert command("embed", "*t.jpg", "d*", "**/owl.*", "odd[1].jpg", "--format", "json") == 0
    inputs = [item["input"] for item in json.loads(command.text)["items"]]
    assert inputs == ["cat.jpg", "dog.jpg", "deep/er/owl.jpg", "odd[1].jpg"]


def test_standard_input(command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a photo of a cat")))
    assert command("classify", "-", "--labels", "dog,cat", "--format", "csv") == 0
    assert command.text.splitlines()[1].startswith("-,cat,1.0,")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("a cat\nein Bär\n".encode())))
    assert command("embed", "--texts-from", "-", "--format", "json") == 0
    assert [item["input"] for item in json.loads(command.text)["items"]] == ["a cat", "ein Bär"]


class _Site(BaseHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/moved.jpg":
            self.send_response(302)
            self.send_header("Location", "/cat.jpg")
            self.end_headers()
            return
        body = {"/cat.jpg": b"a photo of a cat", "/large.jpg": b"x" * 2000}.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")


@contextmanager
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_urls_are_fetched_by_the_client(command: Command, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setattr(_defaults, "FETCH_MAX_BYTES", 1000)
    with site() as url:
        names = [f"{url}/{name}.jpg" for name in ("cat", "moved", "none", "large")]
        assert command("embed", *names, f"http://127.0.0.1:{free_port}/x.jpg", "--format", "npy") == 1
    array = np.load(io.BytesIO(command.out))
    np.testing.assert_array_equal(array[:2], np.stack([features_of(b"a photo of a cat", 16)] * 2))
    assert np.isnan(array[2:]).all()
    for line, words in zip(command.err.splitlines(), ["HTTP 404", "more than 0 MiB", "cannot fetch"], strict=True):
        assert words in line
