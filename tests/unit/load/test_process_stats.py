"""What is read of processes, on this one."""

import socket
from pathlib import Path

import psutil

from load.core.process_stats import measure


def held() -> tuple[int, float]:
    me = psutil.Process()
    usage = measure(me, me, "no-such-region-")
    assert usage.gateway_mib > 10
    assert usage.gateway_threads >= 1
    return usage.gateway_descriptors, usage.shm_mib


def test_open_files_count_and_connections_do_not() -> None:
    before, shared = held()
    assert shared == 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert held()[0] == before + 1
        with socket.create_connection(listener.getsockname()) as one, listener.accept()[0] as other:
            assert held()[0] == before + 1
            other.close()  # the one now waits to be closed: who leaks such sockets must be seen
            assert held()[0] == before + 2
            one.close()
    with Path(__file__).open():
        assert held()[0] == before + 1
    assert held()[0] == before
