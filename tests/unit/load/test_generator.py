"""How requests end, and what is counted of them: each outcome is shown with a client that does just that."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from load.core.checks import Outcome, References
from load.core.generator import Generator, Result, arrivals, percentiles, together
from load.core.operations import EmbedImages, EmbedTexts, Operation
from load.core.protocols import Disconnected, Failed, Malformed, Prepared, Refused, Unanswered
from load.core.sender import Sample
from load.core.workload import Answers, Question
from tests import virtual_time
from tests.unit.load.fake_client import FakeClient, text_vectors, vectors
from tritonclip.protocol import FloatArray

IMAGE, OTHER = b"image", b"other"


class Client:
    """Does for each request what it is told to, or answers rightly."""

    name = "fake"

    def __init__(self, behave: Callable[[], Awaitable[FloatArray | None]] | None = None) -> None:
        self._client = FakeClient()
        self._behave = behave
        self.patience: list[float] = []

    @property
    def asked(self) -> list[Operation]:
        return self._client.asked

    def prepare(self, operation: Operation) -> Prepared:
        return self._client.prepare(operation)

    async def send(self, request: Prepared, deadline: float) -> FloatArray:
        self.patience.append(deadline)
        await asyncio.sleep(0.001)
        special = await self._behave() if self._behave is not None else None
        return special if special is not None else self._client.send(request, deadline)

    async def close(self) -> None:
        pass


def raising(problem: Exception) -> Callable[[], Awaitable[FloatArray | None]]:
    async def behave() -> FloatArray | None:
        raise problem

    return behave


async def other_image() -> FloatArray | None:
    return vectors([OTHER])


def question() -> Question:
    references = References(vectors([IMAGE, OTHER]))
    return Question(EmbedImages([IMAGE]), references.check([0]))


@pytest.fixture
def _virtual(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load's clock is that of `virtual_time.run`: a machine that stands still takes no time from it."""
    clock = SimpleNamespace(perf_counter=lambda: asyncio.get_running_loop().time())
    for module in ("generator", "sender"):
        monkeypatch.setattr(f"load.core.{module}.time", clock)


def ask(client: Client, *, killed: bool = False) -> Sample:
    generator = Generator(client, [question()], deadline=3, grace=2, was_killed=lambda: killed)
    return asyncio.run(generator.ask(client.prepare(question().operation), question().check, time.perf_counter()))


@pytest.mark.parametrize(
    ("behave", "killed", "outcome"),
    [
        (None, False, Outcome.ANSWERED),
        (raising(Refused("queue full")), False, Outcome.REFUSED),
        (raising(Failed("INTERNAL", "broken")), False, Outcome.FAILED),
        (raising(Disconnected("reset")), False, Outcome.FAILED),
        (raising(Disconnected("reset")), True, Outcome.LOST),
        (raising(Refused("queue full")), True, Outcome.REFUSED),  # a server that says no is no dead one
        (raising(Unanswered("nothing")), False, Outcome.HUNG),
        (raising(Malformed("noise")), False, Outcome.WRONG),
        (other_image, False, Outcome.WRONG),
    ],
)
def test_each_outcome(
    behave: Callable[[], Awaitable[FloatArray | None]] | None, killed: bool, outcome: Outcome
) -> None:
    sample = ask(Client(behave), killed=killed)
    assert sample.outcome is outcome
    assert bool(sample.note) is (outcome is not Outcome.ANSWERED)


def test_a_request_has_its_deadline_and_its_grace() -> None:
    client = Client()
    ask(client)
    assert client.patience == [5]


@pytest.mark.usefixtures("_virtual")
def test_what_is_no_problem_of_a_request_is_not_counted_as_one() -> None:
    """A mistake in the load itself must end the run, not pass for a failing server."""
    client = Client(raising(ZeroDivisionError()))
    with pytest.raises(ExceptionGroup):
        virtual_time.run(Generator(client, [question()]).closed_loop(2, 0.05, 0))


def test_the_check_is_outside_the_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("load.core.sender.time", SimpleNamespace(perf_counter=lambda: now))

    async def answer_after_two_seconds() -> FloatArray | None:
        nonlocal now
        now += 2
        return None

    def check_for_five(answer: FloatArray) -> str | None:
        nonlocal now
        now += 5
        return None

    client = Client(answer_after_two_seconds)
    request = client.prepare(question().operation)
    sample = asyncio.run(Generator(client, []).ask(request, check_for_five, started=99.0))
    assert sample.latency == 3, "from when it should have begun"
    assert now == 107


@pytest.mark.usefixtures("_virtual")
def test_a_closed_loop_has_so_many_requests_under_way_and_asks_in_turn() -> None:
    under_way, most = 0, 0

    async def watch() -> FloatArray | None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return None

    client = Client(watch)
    references = References(vectors([IMAGE, OTHER]))
    questions = [Question(EmbedImages([item]), references.check([i])) for i, item in enumerate([IMAGE, OTHER])]
    result = virtual_time.run(Generator(client, questions).closed_loop(7, 0.2, 0.05))
    assert most == 7
    assert set(result.totals()) == set(Outcome)
    assert result.totals()[Outcome.ANSWERED] == len(result.samples) == len(client.asked)
    sent = [task.images[0] for task in client.asked if isinstance(task, EmbedImages)]
    assert abs(sent.count(IMAGE) - sent.count(OTHER)) <= 7
    assert result.counts()[Outcome.ANSWERED] < result.totals()[Outcome.ANSWERED], "the warm-up counts for nothing"


def test_arrivals_are_those_of_the_seed_at_the_rate() -> None:
    moments = arrivals(rate=200, seconds=50, seed=3)
    assert moments == arrivals(200, 50, 3)
    assert moments != arrivals(200, 50, 4)
    assert moments == sorted(moments)
    assert moments[0] > 0
    assert moments[-1] < 50
    gaps = np.diff(moments)
    assert len(moments) == pytest.approx(10_000, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05), "Poisson arrivals have exponential gaps"


def test_an_open_loop_asks_on_time_whatever_became_of_the_others() -> None:
    """All requests of the seed are sent though none is answered before the last is; latency is from the due moment."""
    expected = len(arrivals(100, 0.5, 9))
    done = asyncio.Event()
    waiting = 0

    async def wait_for_all() -> FloatArray | None:
        nonlocal waiting
        waiting += 1
        if waiting == expected:
            done.set()
        await done.wait()
        return None

    client = Client(wait_for_all)
    result = asyncio.run(Generator(client, [question()]).open_loop(100, 0.4, 0.1, seed=9))
    assert result.totals()[Outcome.ANSWERED] == expected
    started = np.array([sample.started for sample in sorted(result.samples, key=lambda sample: sample.started)])
    assert np.allclose(started - (result.begin - 0.1), arrivals(100, 0.5, 9), atol=1e-6)


@pytest.mark.usefixtures("_virtual")
def test_texts_that_no_cache_knows() -> None:
    client = Client()
    texts = ["a cat", "a dog", "a bird"]
    answers = Answers([], texts, References(text_vectors(texts)), References(text_vectors(texts)))
    questions: Iterable[Question] = answers.about_new_texts(per_request=2)
    result = virtual_time.run(Generator(client, questions).closed_loop(3, 0.1, 0))
    assert result.totals()[Outcome.ANSWERED] == len(result.samples) >= 3
    sent = [text for task in client.asked if isinstance(task, EmbedTexts) for text in task.texts]
    assert len(set(sent)) == len(sent)
    assert {text.strip() for text in sent} == set(texts)


def result_of(samples: list[Sample], begin: float = 10.0, end: float = 20.0) -> Result:
    return Result(samples, begin, end, wall_seconds=12.0)


def test_only_what_belongs_to_the_measured_part_counts() -> None:
    samples = [
        Sample(9.0, 0.5, Outcome.ANSWERED, items=4),  # warm-up
        Sample(9.5, 1.0, Outcome.ANSWERED, items=4),  # began in the warm-up, answered in the part that counts
        Sample(12.0, 1.0, Outcome.ANSWERED, items=4),
        Sample(12.0, 0.1, Outcome.REFUSED),
        Sample(13.0, 2.0, Outcome.WRONG, items=4, note="cosine 0.1"),
        Sample(19.0, 3.0, Outcome.ANSWERED, items=4),  # answered too late for the goodput
    ]
    result = result_of(samples)
    assert result.counts() == {
        Outcome.ANSWERED: 2,
        Outcome.REFUSED: 1,
        Outcome.FAILED: 0,
        Outcome.LOST: 0,
        Outcome.WRONG: 1,
        Outcome.HUNG: 0,
    }
    assert result.totals()[Outcome.ANSWERED] == 4
    assert result.goodput == (4 + 4) / 10
    assert result.latency_ms() == {"p50": 2000, "p95": 2900, "p99": 2980, "max": 3000}
    assert result.latency_ms(Outcome.REFUSED) == {"p50": 100, "p95": 100, "p99": 100, "max": 100}
    assert result.latency_ms(Outcome.FAILED) is None
    assert result.to_json()["notes"] == ["1x wrong: cosine 0.1"]


def test_the_steady_rate_is_not_moved_by_whole_batches() -> None:
    """Ten items at once every second, whatever part of a second the window cuts off."""
    samples = [Sample(second - 0.5, 0.5, Outcome.ANSWERED) for second in range(8, 24) for _ in range(10)]
    for shift in (0.0, 0.3, 0.6):
        assert result_of(samples, 10 + shift, 20 + shift).steady_rate == pytest.approx(10, rel=0.02)
    assert result_of(samples[:1]).steady_rate == 0.0


def test_percentiles() -> None:
    assert percentiles(list(range(1, 101))) == {"p50": 50.5, "p95": 95.05, "p99": 99.01, "max": 100}


def test_notes_are_the_most_frequent() -> None:
    numbers = count()
    samples = [Sample(11, 1, Outcome.FAILED, note="often") for _ in range(3)]
    samples += [Sample(11, 1, Outcome.FAILED, note=f"once {next(numbers)}") for _ in range(9)]
    assert result_of(samples).notes(most=2)[0] == "3x failed: often"
    assert len(result_of(samples).notes(most=2)) == 2


def test_runs_together() -> None:
    first, second = result_of([Sample(11, 1, Outcome.FAILED)]), result_of([Sample(21, 1, Outcome.ANSWERED)], 20, 30)
    whole = together([first, second])
    assert (whole.begin, whole.end, whole.wall_seconds) == (10, 30, 24)
    assert whole.totals()[Outcome.FAILED] == whole.totals()[Outcome.ANSWERED] == 1
