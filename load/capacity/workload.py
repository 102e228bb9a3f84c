"""The shapes of load that capacity is measured with: what each request asks, and how many are under way."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from load.core.clients_asyncio import Target
from load.core.generator import Result, Traffic
from load.core.inputs import Spec, pictures, sentences
from load.core.questions import Question, about_both, about_images, check_probe, never_sent, text_references
from tritonclip import Manifest

TASKS = ("embed_image", "embed_text", "compare")
TEXTS = 24
TEXTS_COMPARED = 8  # with each image of a `compare`


@dataclass(frozen=True)
class Work:
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

    async def questions(self, target: Target, manifest: Manifest) -> Iterable[Question]:
        """Requests with their right answers, after the server has shown that it answers as its manifest says."""
        await check_probe(target, manifest.raw.get("probe"))
        if self.task == "embed_text":
            texts = sentences(TEXTS)
            return never_sent(target, texts, await text_references(target, texts), self.per_request)
        if self.task == "compare":
            return await about_both(target, pictures(self.spec), sentences(TEXTS_COMPARED), self.per_request)
        return await about_images(target, pictures(self.spec), self.per_request)


@dataclass(frozen=True)
class Closed:
    """So many clients, each with one request under way."""

    clients: int

    async def run(self, traffic: Traffic, seconds: float, warm_up: float) -> Result:
        """The load for so long after the warm-up."""
        return await traffic.closed_loop(self.clients, seconds, warm_up)


@dataclass(frozen=True)
class Open:
    """Requests that arrive at a mean rate per second."""

    rate: float

    async def run(self, traffic: Traffic, seconds: float, warm_up: float) -> Result:
        """The load for so long after the warm-up."""
        return await traffic.open_loop(self.rate, seconds, warm_up)


Load = Closed | Open
