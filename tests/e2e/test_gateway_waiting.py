"""Bursts through OpenAI's SDK as it comes, at the gateway's limits as the launcher sets them, on a real Triton."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import httpx
import openai
import pytest

from tests.gateway_server import GatewayProcess
from tritonclip_server.embedded.gateway import MOST_ITEMS_IN_FLIGHT
from tritonclip_server.embedded.server import Server
from tritonclip_server.gateway.settings import Limits

AGAIN = 3  # where this process stood still for as long as all of them take, some seconds

numbers = count()


def new_texts(size: int) -> list[str]:
    """Texts that are in no cache."""
    burst = next(numbers)
    return [f"text {index} of burst {burst}" for index in range(size)]


@pytest.fixture(scope="module")
def url(server: Server) -> Iterator[str]:
    # What a slow machine takes longer than a request may, or may wait, is no refusal that these are about.
    limits = (f"--max-items-in-flight={MOST_ITEMS_IN_FLIGHT}", "--max-seconds=200", "--max-waiting-seconds=200")
    running = GatewayProcess("--url", server.grpc_url, *limits)
    yield running.url
    running.stop()


def embed(url: str, texts: list[str]) -> int:
    """How many vectors come back, with no retry."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    return len(client.embeddings.create(model=str(client.models.list().data[0].id), input=texts).data)


def refusals(url: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("tritonclip_gateway_no_room_total{"))


def test_forty_requests_of_16_texts_at_once(url: str) -> None:
    bursts = [new_texts(16) for _ in range(40)]
    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(lambda texts: embed(url, texts), bursts)) == [16] * 40
    assert refusals(url) == 0


def test_five_of_the_largest_at_once_and_small_ones_between_them(url: str) -> None:
    """The largest request does not overload the documented default, and small ones pass between its parts."""
    most = Limits().texts
    passed = 0  # small ones that ended before any large one
    for _ in range(AGAIN):
        with ThreadPoolExecutor(6) as pool:
            large: list[Future[int]] = [pool.submit(embed, url, new_texts(most)) for _ in range(5)]
            while 'items_in_flight{model=""} 0.0' in httpx.get(f"{url}/metrics", timeout=60).text:
                if any(each.done() for each in large):
                    break
            while not any(each.done() for each in large):
                assert embed(url, new_texts(1)) == 1
                passed += not any(each.done() for each in large)
            assert [each.result() for each in large] == [most] * 5
        if passed > 0:
            break
    assert passed > 0, "each small one waited for the end of a large one"
    assert refusals(url) == 0
