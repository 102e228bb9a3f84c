"""Label sets that a running Triton takes up, under load: no answer fails, and each is wholly of one edition."""

import itertools
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from tests.clients import connect
from tests.heads import expected_logits, random_head
from tests.reference import PHOTOS
from tests.serving import start
from tests.waiting import wait_for
from tritonclip import Client, ConfigError, DeadlineExceededError
from tritonclip_server.embedded.server import Server
from tritonclip_server.export import classifiers, heads_cli, labels_cli, remove_cli
from tritonclip_server.repository.label_sets import stored_label_sets
from tritonclip_server.repository.manifest import read_manifest

pytestmark = pytest.mark.alone  # it floods
KEY = "s3cret"
# Other labels, other numbers of them, and the same ones by other weights.
EDITIONS = (("robin", "wren", "crow"), ("crow", "robin"), ("crow", "robin"), ("owl", "crow", "robin", "wren", "finch"))


@pytest.fixture
def repository(tiny_repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_repository, tmp_path / "models" / "served"))


@pytest.fixture
def running(repository: Path, tmp_path: Path) -> Iterator[Server]:
    server = start(repository, tmp_path / "triton.log", admin_key=KEY)
    yield server
    server.stop()


@pytest.fixture
def heads(repository: Path, tmp_path: Path) -> list[Path]:
    fingerprint = (read_manifest(repository) or {})["fingerprint"]
    return [
        random_head(tmp_path / f"head-{number}", "birds", labels, 64, number, fingerprint=fingerprint)
        for number, labels in enumerate(EDITIONS)
    ]


def activate(head: Path, repository: Path, url: str, key: str = KEY) -> int:
    return heads_cli.main([str(head), "--repository", str(repository), "--activate", "--url", url, "--admin-key", key])


def answer_of(row: Sequence[Any]) -> dict[str, float]:
    return {prediction.label: prediction.logit for prediction in row}


class Load:
    """Clients of all kinds that classify and embed without a pause, and what they were answered."""

    def __init__(
        self,
        server: Server,
        expected: Sequence[dict[str, float]],
        features: NDArray[np.float32],
        timeout: float = 60,
    ) -> None:
        self.expected, self.features = expected, features
        self.problems: list[str] = []
        self.editions = [0] * len(expected)
        self._done = threading.Event()
        transports = ("grpc-sync", "http-async", "grpc-async", "http-sync")
        clients = [connect(server, transport, timeout=timeout) for transport in transports]
        works = itertools.cycle((self._classify, self._classify, self._embed))
        self._threads = [threading.Thread(target=self._run, args=(next(works), client)) for client in clients]
        for thread in self._threads:
            thread.start()

    def _run(self, work: Any, client: Any) -> None:
        try:
            while not self._done.is_set():
                try:
                    work(client)
                except DeadlineExceededError:
                    if not self._done.is_set():
                        raise
                    work(client)  # the last try of a call that was refused met a server that stood still
        except Exception as error:
            self.problems.append(repr(error))
        finally:
            client.close()

    def _classify(self, client: Any) -> None:
        found = answer_of(client.classify(PHOTOS[0], label_set="birds")[0])
        same = [
            number
            for number, expected in enumerate(self.expected)
            if found.keys() == expected.keys() and all(abs(found[label] - expected[label]) < 0.01 for label in found)
        ]
        if len(same) != 1:
            self.problems.append(f"of no edition: {found}")
        else:
            self.editions[same[0]] += 1

    def _embed(self, client: Any) -> None:
        if not np.allclose(client.embed_images(PHOTOS[0]).features, self.features, atol=1e-5):
            self.problems.append("another vector")

    def wait_for_answers(self, edition: int) -> None:
        """Until there are some more by that edition, or something is wrong."""
        seen = self.editions[edition]
        wait_for(lambda: self.editions[edition] > seen + 5 or bool(self.problems), 60)

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(60)


def test_heads_are_taken_up_and_replaced_under_load(
    running: Server, repository: Path, heads: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert activate(heads[0], repository, running.grpc_url) == 0
    encoders = [process for name, process in instances(running).items() if "encoder" in name]
    with Client(running.grpc_url) as client:
        features = client.embed_images(PHOTOS[0]).features
    expected = [
        dict(zip(labels, expected_logits(head, features)[0].tolist(), strict=True))
        for head, labels in zip(heads, EDITIONS, strict=True)
    ]
    load = Load(running, expected, features)
    try:
        for number, url in ((1, running.http_url), (2, running.grpc_url)):
            load.wait_for_answers(number - 1)
            assert activate(heads[number], repository, url) == 0
        published = stored_label_sets(repository)
        with monkeypatch.context() as patch:
            patch.setattr(classifiers, "set_cpu_host", break_weights)
            for url in (running.grpc_url, running.http_url):
                capsys.readouterr()
                assert activate(heads[3], repository, url) == 1
                assert "does not take birds up, and serves on what it has" in capsys.readouterr().err
                wait_for(lambda: is_ready(running))
        assert stored_label_sets(repository) == published
        assert activate(heads[3], repository, running.grpc_url, "wrong") == 1
        assert stored_label_sets(repository) == published
        load.wait_for_answers(2)
        assert activate(heads[3], repository, running.grpc_url) == 0
        load.wait_for_answers(3)
        assert running.fault() is None
    finally:
        load.stop()
    assert load.problems == []
    assert min(load.editions) > 5
    wait_for(lambda: is_ready(running))
    assert [each for each in encoders if each.is_running()] == encoders, "nothing but the label set was loaded again"
    (stored,) = stored_label_sets(repository)
    # The weights of earlier editions are let go of; Triton says so while their process still ends.
    wait_for(lambda: [name for name in instances(running) if "head_" in name] == [f"{stored.weights}_0_0"])


def is_ready(server: Server) -> bool:
    return httpx.get(f"{server.http_url}/v2/health/ready", timeout=30).status_code == 200


def break_weights(config: Any) -> None:
    """As `set_cpu_host`, with a parameter that no backend has: such a model does not load."""
    if "." in config.name:
        config.parameters["NO_SUCH_PARAMETER"].string_value = "1"


def instances(server: Server) -> dict[str, psutil.Process]:
    """The processes of the models, by the names that Triton gives them; those that have ended are left out."""
    found = {}
    for process in psutil.Process(server.pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie is one, too
            if words := process.cmdline():  # none in one that is ending
                found[words[-2]] = process
    return found


def test_a_label_set_is_taken_up_too_and_the_death_of_its_process_is_seen(
    running: Server, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n")
    command = ["pets", "--labels", str(labels), "--templates", "simple", "--repository", str(repository)]
    command += ["--if-changed", "--activate", "--url", running.http_url, "--admin-key", KEY]
    with Client(running.grpc_url) as client:
        assert "pets" not in client.manifest().label_sets
        assert labels_cli.main(command) == 0
        first = client.classify(PHOTOS, label_set="pets")
        capsys.readouterr()
        assert labels_cli.main(command) == 0  # nothing to do, and it says so
        assert capsys.readouterr().out.splitlines() == [
            f"label set pets in {repository} is up to date", f"{running.http_url} serves it",
        ]  # fmt: skip
        assert all(prediction.cosine is not None for prediction in first[0])
        assert client.status().ready
    wait_for(lambda: running.fault() is None and any("pets" in name for name in running._watched))
    (victim,) = [process for name, process in instances(running).items() if "head_pets" in name]
    victim.kill()
    wait_for(lambda: bool(running.fault()))
    assert f"the process of {instance_of_pets(repository)}_0_0 died" == running.fault()


def test_one_that_is_removed_is_let_go_of_and_nothing_else(
    running: Server, repository: Path, heads: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert activate(heads[0], repository, running.grpc_url) == 0
    before = set(instances(running))
    with Client(running.grpc_url) as client:
        features = client.embed_images(PHOTOS[0]).features
        expected = [dict(zip(EDITIONS[0], expected_logits(heads[0], features)[0].tolist(), strict=True))]
        load = Load(running, expected, features, timeout=15)  # for which whoever asks for what is gone may ask again
        try:
            load.wait_for_answers(0)
            place = ["--repository", str(repository), "--activate", "--url", running.http_url]
            assert remove_cli.main(["birds", *place, "--admin-key", "wrong"]) == 1
            assert [each.name for each in stored_label_sets(repository)] == ["birds"]
            load.wait_for_answers(0)
            capsys.readouterr()
            assert remove_cli.main(["birds", *place, "--admin-key", KEY]) == 0
            assert capsys.readouterr().out.splitlines() == [
                f"removed birds from {repository}", f"{running.http_url} serves it no more",
            ]  # fmt: skip
        finally:
            load.stop()
        # Whoever asks for it is told so; whoever embeds has noticed nothing.
        assert load.problems
        told = ("no label set 'birds'", "'classify_birds' has no available versions")  # the latter in that very moment
        assert [problem for problem in load.problems if not any(words in problem for words in told)] == []
        with pytest.raises(ConfigError, match="no label set 'birds'; it has none"):
            client.classify(PHOTOS[0], label_set="birds")
        wait_for(lambda: len(before - set(instances(running))) > 0)  # unloaded, its process still ends
        assert [name.partition(".")[0] for name in before - set(instances(running))] == ["head_birds"]
        wait_for(lambda: is_ready(running))  # not while it unloads
        assert running.fault() is None
        assert activate(heads[1], repository, running.grpc_url) == 0
        assert set(answer_of(client.classify(PHOTOS[0], label_set="birds")[0])) == set(EDITIONS[1])


def instance_of_pets(repository: Path) -> str:
    (stored,) = stored_label_sets(repository)
    return stored.weights


def test_who_serves_something_else_is_refused_before_anything_is_made(
    running: Server, repository: Path, heads: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(repository, tmp_path / "other"))
    manifest = (other / "manifest.json").read_text().replace('"variant": "', '"variant": "another ')
    (other / "manifest.json").write_text(manifest)
    assert activate(heads[0], other, running.grpc_url) == 1
    assert "was published again since" in capsys.readouterr().err
    assert activate(heads[0], repository, "grpc://127.0.0.1:9") == 1
    assert "does not say what it serves" in capsys.readouterr().err
    assert stored_label_sets(other) == stored_label_sets(repository) == []
