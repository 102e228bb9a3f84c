"""The shapes of load that capacity is measured with: what each request asks, and how many are under way."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from load.core.generator import Generator, Result
from load.core.inputs import Spec, images, sentences
from load.core.sender import AsyncClient
from load.core.workload import Question, ask_async, learn
from tritonclip import Manifest

TASKS = ("embed_image", "embed_text", "compare")
TEXTS = 24
TEXTS_COMPARED = 8  # with each image of a `compare`

Questions = Callable[[AsyncClient, Manifest], Awaitable[Iterable[Question]]]
"""Learns the right answers of a server, and gives what to ask of it."""


@dataclass(frozen=True)
class Workload:
    """What a request asks: one of TASKS, with so many images of a spec (or, for `embed_text`, so many texts)."""

    task: str = "embed_image"
    per_request: int = 1
    spec: Spec = field(default_factory=Spec)

    @property
    def unit(self) -> str:
        """What throughput counts."""
        return "texts" if self.task == "embed_text" else "images"

    @property
    def encoder(self) -> str:
        """The stage whose batches are looked at."""
        return "text_encoder" if self.task == "embed_text" else "image_encoder"

    async def questions(self, client: AsyncClient, manifest: Manifest) -> Iterable[Question]:
        """Requests with their right answers, after the server has shown that it answers as its manifest says."""
        files = () if self.task == "embed_text" else images(self.spec)
        texts = {"embed_text": TEXTS, "compare": TEXTS_COMPARED}.get(self.task, 0)
        answers = await ask_async(client, learn(files, sentences(texts), probe=manifest.raw.get("probe")))
        if self.task == "embed_text":
            return answers.about_new_texts(self.per_request)
        return (answers.about_both if self.task == "compare" else answers.about_images)(self.per_request)


@dataclass(frozen=True)
class Load:
    """So many clients, each with one request under way, or requests that arrive at a mean rate: one of the two."""

    concurrency: int | None = None
    rate_per_s: float | None = None

    def __str__(self) -> str:
        return f"{self.concurrency} clients" if self.rate_per_s is None else f"{self.rate_per_s:g} requests/s"

    async def run(self, generator: Generator, seconds: float, warm_up: float) -> Result:
        """The load for so long after the warm-up."""
        if self.rate_per_s is not None:
            return await generator.open_loop(self.rate_per_s, seconds, warm_up)
        return await generator.closed_loop(self.concurrency or 1, seconds, warm_up)


def pixels(text: str) -> tuple[int, int]:
    """Width and height of an option such as 640x480."""
    width, height = text.split("x")
    return int(width), int(height)
