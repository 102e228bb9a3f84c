"""Each bad request of the table is refused with its own status, code and param, and nothing is left behind."""

from collections.abc import Iterator

import pytest

from tests.bad_inputs import BAD_INPUTS, LIMITS, Bad
from tests.unit.gateway.conftest import LABEL_SETS, Gateway, gateway_over, refuse
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.errors import STATUSES
from tritonclip_server.gateway.settings import Settings


@pytest.fixture(scope="module")
def strict() -> Iterator[Gateway]:
    with gateway_over(FakeServer(label_sets=LABEL_SETS, refuse=refuse), Settings(limits=LIMITS)) as running:
        yield running


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_it_is_refused(strict: Gateway, bad: Bad) -> None:
    answer = strict.http.post(bad.path.format(model="fake"), **bad.request())
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (bad.status, bad.code, bad.param), error
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    if error["param"]:
        assert error["message"].startswith(f"{error['param']}: ")
        assert not error["message"].startswith(2 * f"{error['param']}: ")
    assert "Traceback" not in error["message"]
    assert answer.headers["x-request-id"]
    assert strict.metric("tritonclip_gateway_items_in_flight") == 0


def test_there_are_enough_of_them() -> None:
    assert len(BAD_INPUTS) >= 60
    assert len({bad.name for bad in BAD_INPUTS}) == len(BAD_INPUTS)
    assert all(STATUSES[bad.code] == bad.status for bad in BAD_INPUTS)
