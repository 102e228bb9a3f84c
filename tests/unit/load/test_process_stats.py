"""What is read of processes, on one that has nothing but what is opened here."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# In a process of its own: what other tests have left in this one may be closed at any moment.
STEPS = """
import socket, sys, time
import psutil
from load.core.process_stats import measure

def held():
    me = psutil.Process()
    usage = measure(me, me, "no-such-region-")
    assert usage.gateway_mib > 10
    assert usage.gateway_threads >= 1
    assert usage.shm_mib == 0
    return usage.gateway_descriptors

before = held()
with socket.create_server(("127.0.0.1", 0)) as listener:
    assert held() == before + 1
    with socket.create_connection(listener.getsockname()) as one, listener.accept()[0] as other:
        assert held() == before + 1
        other.close()  # the one now waits to be closed: who leaks such sockets must be seen
        patience = time.monotonic() + 30
        while held() != before + 2 and time.monotonic() < patience:  # the kernel tells it a moment later
            time.sleep(0.01)
        assert held() == before + 2
        one.close()
with open(sys.executable, "rb"):
    assert held() == before + 1
assert held() == before
"""


def test_open_files_count_and_connections_do_not() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], cwd=ROOT, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
