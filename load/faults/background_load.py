"""Checked requests over all protocols at once: what other people see while something bad is going on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from load.core.clients_asyncio import open_client
from load.core.generator import Generator, Result
from load.core.inputs import Spec, images
from load.core.protocols import RequestProblem
from load.core.sender import AsyncClient
from load.core.workload import Question, ask_async, learn

SMALL = Spec(width=96, height=72, count=16)
CLIENTS = 2  # over each protocol: enough to see trouble, too few to make it
BACK_SECONDS = 30.0  # from a server that is ready again until all protocols lead to it, at most

Asked = tuple[AsyncClient, list[Question]]
Protocols = dict[str, Asked]


async def image_questions(client: AsyncClient, spec: Spec) -> list[Question]:
    """Requests to embed the images of a spec, one each, with their right answers."""
    return (await ask_async(client, learn(images(spec)))).about_images()


@asynccontextmanager
async def all_protocols(urls: Mapping[str, str], spec: Spec = SMALL) -> AsyncIterator[Protocols]:
    """A client and questions for it, by protocol: grpc, http, gateway, as far as there is a URL."""
    clients = [open_client(name, url) for name, url in urls.items()]
    try:
        yield {client.name: (client, await image_questions(client, spec)) for client in clients}
    finally:
        for client in clients:
            await client.close()


async def ask_beside(
    protocols: Protocols,
    seconds: float,
    *,
    clients: int = CLIENTS,
    rate: float | None = None,
    was_killed: Callable[[], bool] = lambda: False,
) -> dict[str, Result]:
    """All protocols at once for so many seconds: closed loops of so many clients, or open ones of a rate in all."""

    async def ask(seed: int, asked: Asked) -> Result:
        generator = Generator(*asked, was_killed=was_killed)
        if rate is None:
            return await generator.closed_loop(clients, seconds, warm_up=0.0)
        return await generator.open_loop(rate / len(protocols), seconds, warm_up=0.0, seed=seed)

    results = await asyncio.gather(*(ask(seed, asked) for seed, asked in enumerate(protocols.values())))
    return dict(zip(protocols, results, strict=True))


async def until_answered(protocols: Protocols) -> None:
    """Return once every protocol answers; TimeoutError where one does not.

    A gRPC channel whose server was gone connects again after a pause, and refuses by itself until then.
    """
    async with asyncio.timeout(BACK_SECONDS):
        for client, questions in protocols.values():
            while True:
                try:
                    await client.send(client.prepare(questions[0].operation), BACK_SECONDS)
                except RequestProblem:
                    await asyncio.sleep(0.1)
                else:
                    break
