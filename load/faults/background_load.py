"""Checked requests by all ways in at once: what other people see while something bad is going on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from load.core.clients_asyncio import RequestProblem, Target
from load.core.generator import Result, Traffic
from load.core.inputs import Spec, pictures
from load.core.questions import Question, about_images
from load.faults.service import Service

SMALL = Spec(width=96, height=72, count=16)
CLIENTS = 2  # for each way in: enough to see trouble, too few to make it
BACK_SECONDS = 30.0  # from a server that is ready again until all ways lead to it, at most

Ways = dict[str, tuple[Target, list[Question]]]


@asynccontextmanager
async def ways_in(service: Service, spec: Spec = SMALL) -> AsyncIterator[Ways]:
    """A target and questions for it, by name: grpc, http, gateway."""
    targets = service.targets()
    try:
        yield {target.name: (target, await about_images(target, pictures(spec))) for target in targets}
    finally:
        for target in targets:
            await target.close()


async def ask_beside(
    ways: Ways, seconds: float, *, was_killed: Callable[[], bool] = lambda: False, clients: int = CLIENTS
) -> dict[str, Result]:
    """Closed loops by all ways at once for so many seconds."""

    async def ask(target: Target, questions: list[Question]) -> Result:
        return await Traffic(target, questions, was_killed=was_killed).closed_loop(clients, seconds, warm_up=0.0)

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(ask(target, questions)) for name, (target, questions) in ways.items()}
    return {name: task.result() for name, task in tasks.items()}


async def until_answered(ways: Ways) -> None:
    """Return once every way answers; TimeoutError where one does not.

    A gRPC channel whose server was gone connects again after a pause, and refuses by itself until then.
    """
    async with asyncio.timeout(BACK_SECONDS):
        for target, questions in ways.values():
            while True:
                try:
                    await target.send(questions[0].request, BACK_SECONDS)
                except RequestProblem:
                    await asyncio.sleep(0.1)
                else:
                    break
