"""The simulation of many workers and servers, small: what it counts adds up."""

import pytest

from load.bulk.scaling import Setting, measure, table

pytestmark = pytest.mark.alone


def test_workers_share_a_server_and_every_image_is_counted() -> None:
    found = measure(Setting(workers=2, servers=1, images_per_s=400.0, shards_per_worker=2, images_per_shard=160))
    assert (found["workers"], found["servers"]) == (2, 1)
    assert 0 < found["of_capacity"] <= 1.01  # a stub is never faster than it says
    assert found["refused_per_answer"] < 3
    assert table([found]).splitlines()[-1] == f"| {' | '.join(str(value) for value in found.values())} |"
