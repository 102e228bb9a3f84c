"""One request from draw to verdict, as Locust counts it. Nothing here knows Locust."""

import re
import time
from typing import NamedTuple

from load.core.checks import Outcome
from load.core.protocols import Prepared, RequestProblem
from load.core.workload import Asked, Way

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class Fault(Exception):
    """Why a request counts as a failure: `outcome`, and `note` in words.

    Its text leaves numbers out: Locust keeps a line for every different text, and cosines and ids are all different.
    """

    def __init__(self, outcome: Outcome, note: str) -> None:
        super().__init__(f"{outcome}: {_NUMBER.sub('#', note)[:200]}")
        self.outcome = outcome
        self.note = note

    def __repr__(self) -> str:
        return str(self)


class Ended(NamedTuple):
    """How a request ended: seconds it took, bytes of its vectors, and the fault (None: the right answer came)."""

    seconds: float
    size: int
    fault: Fault | None


def ask(way: Way, asked: Asked, request: Prepared, deadline: float, since: float) -> Ended:
    """Send a request and check its answer, after the clock has stopped.

    `since` is when its time begins, on `time.perf_counter`'s clock: now, or when it should have been sent.
    """
    answer, fault = None, None
    try:
        answer = way.send(request, deadline)
    except RequestProblem as problem:
        fault = Fault(problem.outcome, str(problem))
    seconds = time.perf_counter() - since
    if answer is not None and (reason := asked.check(answer)) is not None:
        fault = Fault(Outcome.WRONG, reason)
    return Ended(seconds, 0 if answer is None else answer.nbytes, fault)
