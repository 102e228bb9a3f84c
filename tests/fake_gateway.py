"""`python -m tests.fake_gateway SECONDS|FILE OPTIONS`: the gateway over a server in memory, a process to be hard on.

Every image takes so many seconds to embed, or until there is such a file; a text that begins with "fail" ends in an
error that nobody foresaw, whose words are the text.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from tritonclip import AsyncClient, Embeddings
from tritonclip.testing import FakeServer
from tritonclip_server.gateway import cli
from tritonclip_server.gateway.inference.engine import OnError


class SlowClient(AsyncClient):
    """A client whose images take their time."""

    seconds = 0.0
    held_until: Path | None = None

    def with_timeout(self, timeout: float) -> "SlowClient":
        return self

    async def embed_images(self, images: Any, *, on_error: OnError = "raise", progress: bool = False) -> Embeddings:
        await asyncio.sleep(self.seconds)
        while self.held_until is not None and not self.held_until.exists():  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.02)
        return await super().embed_images(images, on_error=on_error)

    async def embed_texts(self, texts: Any, **options: Any) -> Embeddings:
        for text in texts:
            if text.startswith("fail"):
                raise ZeroDivisionError(text)
        return await super().embed_texts(texts, **options)


def main() -> int:
    """Run it."""
    try:
        SlowClient.seconds = float(sys.argv[1])
    except ValueError:
        SlowClient.held_until = Path(sys.argv[1])
    vars(cli)["AsyncClient"] = lambda *_, **__: SlowClient(transport=FakeServer().async_transport())
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
