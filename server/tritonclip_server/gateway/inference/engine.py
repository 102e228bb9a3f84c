"""What the gateway needs of a model server. `tritonclip.AsyncClient` is one; tests bring smaller ones."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from tritonclip import Classifications, Embeddings, Manifest

OnError = Literal["raise", "return"]
OnTruncation = Literal["raise", "warn", "allow"]


class Inference(Protocol):
    """What a request asks of a model server; errors are tritonclip's."""

    async def embed_images(self, images: Sequence[bytes], *, on_error: OnError = "raise") -> Embeddings:
        """Features of encoded images."""

    async def embed_texts(
        self, texts: Sequence[str], *, on_error: OnError = "raise", on_truncation: OnTruncation = "warn"
    ) -> Embeddings:
        """Features of texts; `on_truncation` says what becomes of those that are longer than the model reads."""

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has uncut, start and end included."""

    async def classify(
        self,
        images: Sequence[bytes],
        *,
        label_set: str,
        top_k: int | None = None,
        on_error: OnError = "raise",
    ) -> Classifications:
        """The labels of a stored set that fit each image, best first."""


class Engine(Inference, Protocol):
    """A model server: it embeds, and says what it embeds with."""

    def with_timeout(self, timeout: float) -> "Engine":
        """The same engine for requests that must end within so many seconds."""

    def with_headers(self, headers: Mapping[str, str]) -> "Engine":
        """The same engine for a request that is followed: what it asks of the server carries these."""

    async def manifest(self, *, refresh: bool = False) -> Manifest:
        """What is deployed: as remembered, or asked for anew."""

    async def aclose(self) -> None:
        """Close all connections."""
