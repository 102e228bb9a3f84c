"""A client that was used and then inherited by forked children: each gets its own answers, over every transport.

The forks happen in a process of their own, whose threads are the client's alone; the server is in this one.
"""

import json
import subprocess
import sys
import threading

import pytest

from tests.unit.client.conftest import Wire
from tritonclip.protocol.messages import Call, InferRequest

# Threads go on calling while others fork, one of them in a call that the server holds; children end in either way.
SCRIPT = """
import asyncio, json, os, sys, threading
import numpy as np
from tritonclip import AsyncClient, Client
from tritonclip.protocol import _forks
from tritonclip.testing import features_of

_forks.PATIENCE_SECONDS = 0.1
url, is_async, children = sys.argv[1], sys.argv[2] == "async", int(sys.argv[3])
client = AsyncClient(url, timeout=20) if is_async else Client(url, timeout=20)

def right(text):
    call = client.embed_texts([text])
    rows = asyncio.run(call) if is_async else call
    return np.array_equal(rows.features[0], features_of(text.encode(), 16))

def hold():
    right("hold")

wrong, stop = [], threading.Event()

def work(name):
    while not stop.is_set():
        if not right(f"parent {name}"):
            wrong.append(name)

right("parent")
threads = [threading.Thread(target=work, args=(n,)) for n in range(2)] + [threading.Thread(target=hold, daemon=True)]
for thread in threads:
    thread.start()
codes = []
for turn in range(children // 2):
    pids = []
    for number in range(2):
        if (pid := os.fork()) == 0:
            good = all(right(f"child {turn} {number} {n}") for n in range(5))
            if number == 0:
                os._exit(0 if good else 1)
            stop.set()
            sys.exit(0 if good else 1)
        pids.append(pid)
    codes += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
stop.set()
for thread in threads[:2]:
    thread.join()
print(json.dumps({"children": codes, "wrong": wrong, "after": right("after")}))
"""


def test_children_get_their_own_answers_and_the_parent_keeps_its_own(wire: Wire) -> None:
    release = threading.Event()

    def before(call: Call) -> None:
        if isinstance(call, InferRequest) and call.inputs and b"hold" in call.inputs[0].items():
            release.wait(60)

    wire.fake.before = before
    try:
        mode = "async" if wire.is_async else "sync"
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, wire.url, mode, "4"], capture_output=True, text=True, timeout=90
        )
    finally:
        release.set()
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == {"children": [0] * 4, "wrong": [], "after": True}
    peers = [(peer, call.inputs[0].items()) for peer, call in wire.server.peers if call.model == "embed_text"]
    of_children = {peer for peer, items in peers if items[0].startswith(b"child")}
    of_parent = {peer for peer, items in peers if items[0].startswith(b"parent")}
    assert len(of_children) == 4
    assert not of_children & of_parent
    assert {peer for peer, items in peers if items == [b"after"]} <= of_parent  # the children broke none of its own


@pytest.mark.parametrize("wire", ["grpc"], indirect=True)
def test_where_grpc_cannot_support_a_fork_the_child_is_told(wire: Wire) -> None:
    """It was imported before, without its support for forks, and a call was under way: it would abort the child."""
    release = threading.Event()
    wire.fake.before = lambda call: release.wait(60) if call.model == "embed_text" else None
    script = """
import os, sys, threading
import grpc
from tritonclip import Client, ConfigError
from tritonclip.protocol import _forks, open_transport, resolve_connection

_forks.PATIENCE_SECONDS = 0.1
transport = open_transport(resolve_connection(sys.argv[1]))
client = Client(transport=transport)
client.manifest()
threading.Thread(target=client.embed_texts, args=("hold",), daemon=True).start()
while not transport.is_disturbed_by_forks():
    pass
if (pid := os.fork()) == 0:
    try:
        client.status()
    except ConfigError as error:
        os._exit(42 if "GRPC_ENABLE_FORK_SUPPORT" in str(error) else 1)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
client.close()
"""
    try:
        process = subprocess.run(
            [sys.executable, "-c", script, wire.url], capture_output=True, text=True, timeout=60, check=True
        )
    finally:
        release.set()
    assert process.stdout.split() == ["42"]


@pytest.mark.parametrize("wire", ["http", "grpc"], indirect=True)
def test_multiprocessing_by_fork(wire: Wire) -> None:
    script = """
import multiprocessing, sys
import numpy as np
from tritonclip import Client
from tritonclip.testing import features_of

client = Client(sys.argv[1])
client.embed_texts(["parent"])

def embed(text):
    return np.array_equal(client.embed_texts([text]).features[0], features_of(text.encode(), 16))

with multiprocessing.get_context("fork").Pool(2) as pool:
    print(all(pool.map(embed, [str(n) for n in range(40)], chunksize=1)))
"""
    process = subprocess.run(
        [sys.executable, "-c", script, wire.url], capture_output=True, text=True, timeout=60, check=True
    )
    assert process.stdout.split() == ["True"]
