"""The engine as one request asks it: each call is timed, and carries the request's id and its trace to the server."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tritonclip import Classifications, Embeddings
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.inference.engine import Engine, OnError, OnTruncation

T = TypeVar("T")

STAGE = "triton"


class FollowedEngine:
    """An engine for one request."""

    def __init__(self, engine: Engine, context: RequestContext) -> None:
        self._engine = engine
        self._context = context

    async def embed_images(self, images: Sequence[bytes], *, on_error: OnError = "raise") -> Embeddings:
        """Features of encoded images."""
        return await self._ask("embed_image", lambda engine: engine.embed_images(images, on_error=on_error))

    async def embed_texts(
        self, texts: Sequence[str], *, on_error: OnError = "raise", on_truncation: OnTruncation = "warn"
    ) -> Embeddings:
        """Features of texts."""
        return await self._ask(
            "embed_text", lambda engine: engine.embed_texts(texts, on_error=on_error, on_truncation=on_truncation)
        )

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has uncut."""
        return await self._ask("count_tokens", lambda engine: engine.count_tokens(texts))

    async def classify(
        self, images: Sequence[bytes], *, label_set: str, top_k: int | None = None, on_error: OnError = "raise"
    ) -> Classifications:
        """The labels of a stored set that fit each image."""
        return await self._ask(
            "classify",
            lambda engine: engine.classify(images, label_set=label_set, top_k=top_k, on_error=on_error),
        )

    async def _ask(self, name: str, call: Callable[[Engine], Awaitable[T]]) -> T:
        with self._context.stage(STAGE, call=name) as headers:
            return await call(self._engine.with_headers({"x-request-id": self._context.request_id, **headers}))
