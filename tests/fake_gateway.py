"""`python -m tests.fake_gateway SECONDS OPTIONS`: the gateway over a server in memory, a process to be hard on.

Every image takes so many seconds to embed; a text that begins with "fail" ends in an error that nobody foresaw, whose
words are the text.
"""

import asyncio
import sys
from typing import Any

from tritonclip import AsyncClient, Embeddings
from tritonclip.testing import FakeServer
from tritonclip_server.gateway import cli
from tritonclip_server.gateway.inference.engine import OnError


class SlowClient(AsyncClient):
    """A client whose images take their time."""

    seconds = 0.0

    def with_timeout(self, timeout: float) -> "SlowClient":
        return self

    async def embed_images(self, images: Any, *, on_error: OnError = "raise", progress: bool = False) -> Embeddings:
        await asyncio.sleep(self.seconds)
        return await super().embed_images(images, on_error=on_error)

    async def embed_texts(self, texts: Any, **options: Any) -> Embeddings:
        for text in texts:
            if text.startswith("fail"):
                raise ZeroDivisionError(text)
        return await super().embed_texts(texts, **options)


def main() -> int:
    """Run it."""
    SlowClient.seconds = float(sys.argv[1])
    vars(cli)["AsyncClient"] = lambda *_, **__: SlowClient(transport=FakeServer().async_transport())
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
