"""What the gateway needs of a model server. `tritonclip.AsyncClient` is one; tests bring smaller ones."""

from collections.abc import Sequence
from typing import Literal, Protocol

from tritonclip import Classifications, Embeddings, Manifest

OnError = Literal["raise", "return"]
OnTruncation = Literal["raise", "warn", "allow"]


class Engine(Protocol):
    """Embeds, and says what it embeds with; errors are tritonclip's."""

    def with_timeout(self, timeout: float) -> "Engine":
        """The same engine for requests that must end within so many seconds."""

    async def manifest(self, *, refresh: bool = False) -> Manifest:
        """What is deployed: as remembered, or asked for anew."""

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

    async def aclose(self) -> None:
        """Close all connections."""
