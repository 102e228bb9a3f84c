"""The file of keys: what it may hold, what a spoilt or unreadable one means, and how it is written."""

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tritonclip_server.gateway import keys_cli
from tritonclip_server.gateway.access.keys import (
    UNREADABLE_SECONDS,
    Key,
    KeyFile,
    KeyFileError,
    KeyStore,
    KeysUnavailable,
)
from tritonclip_server.gateway.cli import main
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.http.access_middleware import authenticate


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def test_the_file_is_documented_json(file: KeyFile) -> None:
    key, _ = file.create("alice", images_per_minute=5)
    (entry,) = json.loads(file.path.read_text())["keys"]
    assert Key(**entry) == key
    assert set(entry) == {
        "id", "name", "salt", "digest", "created", "requests_per_minute", "images_per_minute", "models",
    }  # fmt: skip


def test_a_key_may_be_for_some_models(file: KeyFile, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["create", "bob", "--keys", str(file.path), "--model", "demo", "--model", "org/b", "--model", "demo"]
    assert keys_cli.main(command) == 0
    (key,) = file.read().values()
    assert key.models == ("demo", "org/b")
    assert keys_cli.main(["list", "--keys", str(file.path)]) == 0
    assert "images a minute  of demo, org/b  bob\n" in capsys.readouterr().out
    with pytest.raises(KeyFileError, match="a key's model must be printable"):
        file.create("alice", models=["line\nbreak"])


def test_a_file_of_before_there_were_models_is_read(file: KeyFile) -> None:
    file.create("alice")
    document = json.loads(file.path.read_text())
    del document["keys"][0]["models"]
    file.path.write_text(json.dumps(document))
    (key,) = file.read().values()
    assert key.models is None


def entry(**changes: object) -> dict[str, object]:
    return {"id": "1a2b3c4d", "name": "alice", "salt": "00" * 16, "digest": "0" * 64, "created": "2026-01-01"} | changes


SPOILT = [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"keys": ' + b"[" * 100_000, b'{"keys": {}}', b'{"key": []}',
    *(
        json.dumps(document).encode()
        for document in (
            {"keys": [1]},
            {"keys": [], "more": 1},
            {"keys": [entry(name=7)]},
            {"keys": [entry(name=None)]},
            {"keys": [entry(id="a-b")]},
            {"keys": [entry(id="")]},
            {"keys": [entry(salt="no hex")]},
            {"keys": [entry(salt="abc")]},
            {"keys": [entry(digest="é" * 64)]},
            {"keys": [entry(requests_per_minute=-1)]},
            {"keys": [entry(requests_per_minute="600")]},
            {"keys": [entry(requests_per_minute=True)]},
            {"keys": [entry(images_per_minute=1.5)]},
            {"keys": [entry(images_per_minute=10**400)]},
            {"keys": [entry(admin=True)]},
            {"keys": [entry(), entry(name="bob")]},
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("content", SPOILT)
def test_wrong_types_are_an_error_at_start_and_change_nothing_while_running(file: KeyFile, content: bytes) -> None:
    file.path.write_bytes(content)
    with pytest.raises(KeyFileError) as error:
        KeyStore(file.path)
    assert str(file.path) in str(error.value)
    assert "0" * 32 not in str(error.value)

    file.path.unlink()
    alice, secret = file.create("alice")
    store = KeyStore(file.path)
    file.path.write_bytes(content)
    assert store.find(secret) == alice
    assert store.find("tclip-1a2b3c4d-x") is None
    # Of another length: where a file system's clock is coarse, it may be of the same time.
    file.path.write_text('{"keys": []}'.ljust(1000))
    assert store.find(secret) is None


def test_a_spoilt_file_stops_the_command(file: KeyFile, capsys: pytest.CaptureFixture[str]) -> None:
    file.path.write_text('{"keys": [{"name": 7}]}')
    assert main(["--keys", str(file.path), "--port", "0"]) == 1
    said = capsys.readouterr().err
    assert str(file.path) in said
    assert "Traceback" not in said


class Failing:
    """Makes a file's opening fail while `times` is above 0, as it does when no descriptors are left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0.0
        opening = Path.open

        def open_or_fail(path: Path, *arguments: Any, **options: Any) -> Any:
            if self.times > 0 and path.name == "keys.json":
                self.times -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return opening(path, *arguments, **options)

        monkeypatch.setattr(Path, "open", open_or_fail)


def test_a_revoked_key_ends_as_soon_as_the_file_can_be_read_again(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the file does not change once more."""
    alice, secret = file.create("alice")
    store = KeyStore(file.path)
    failing = Failing(monkeypatch)
    file.revoke(alice.id)
    failing.times = 2
    assert store.find(secret) == alice
    assert store.find(secret) == alice
    assert store.find(secret) is None


def test_a_file_that_stays_unreadable_lets_nobody_in(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alice, secret = file.create("alice")
    now = 0.0
    store = KeyStore(file.path, clock=lambda: now)
    file.create("bob")
    failing = Failing(monkeypatch)
    failing.times = math.inf
    assert store.find(secret) == alice
    now = UNREADABLE_SECONDS
    assert store.find(secret) == alice
    now = UNREADABLE_SECONDS + 1
    with pytest.raises(KeysUnavailable):
        store.find(secret)
    with pytest.raises(ApiError) as refused:
        authenticate(store, f"Bearer {secret}")
    assert (refused.value.code, refused.value.status) == ("keys_unavailable", 503)
    assert "every request is refused" in caplog.text
    failing.times = 0
    assert store.find(secret) == alice
    failing.times = math.inf
    file.path.touch()
    now += UNREADABLE_SECONDS  # counted anew
    assert store.find(secret) == alice


def test_a_symbolic_link_stays_one(file: KeyFile, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.json"
    link.parent.mkdir()
    link.symlink_to("../keys.json")
    linked = KeyFile(link)
    alice, secret = linked.create("alice")
    assert link.is_symlink()
    assert file.read() == {alice.id: alice}
    store = KeyStore(link)
    assert store.find(secret) == alice
    assert linked.revoke(alice.id)
    assert link.is_symlink()
    assert store.find(secret) is None


def test_a_secret_of_kubernetes_is_heeded_as_kubelet_exchanges_it(file: KeyFile, tmp_path: Path) -> None:
    """keys.json → ..data/keys.json, and ..data → a folder: the one link to the folder is all that changes."""
    alice, secret = file.create("alice")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    store = KeyStore(mounted / "keys.json")
    assert store.find(secret) is None  # an optional Secret that is not there yet

    def exchange(edition: str) -> None:
        (mounted / edition).mkdir()
        (mounted / edition / "keys.json").write_bytes(file.path.read_bytes())
        (mounted / "..data_tmp").symlink_to(edition)
        (mounted / "..data_tmp").replace(mounted / "..data")

    exchange("..first")
    (mounted / "keys.json").symlink_to("..data/keys.json")
    assert store.find(secret) == alice
    file.revoke(alice.id)
    exchange("..second")
    assert store.find(secret) is None


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _ = file.create("alice")
    before = sorted(path.name for path in file.path.parent.iterdir())

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            file.create("bob")
    assert file.read() == {alice.id: alice}
    assert sorted(path.name for path in file.path.parent.iterdir()) == before


def test_what_a_killed_command_left_is_gone_after_the_next(file: KeyFile) -> None:
    program = (
        "import os, sys; from pathlib import Path; from tritonclip_server.gateway.access.keys import KeyFile\n"
        "os.fsync = lambda _: os._exit(9)\n"
        "KeyFile(Path(sys.argv[1])).create('alice')"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file.path)], check=False)
    assert done.returncode == 9
    assert len(list(file.path.parent.iterdir())) == 2  # the lock, and what was not finished
    bob, _ = file.create("bob")
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["keys.json", "keys.json.lock"]
    assert file.read() == {bob.id: bob}
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_file_is_on_the_disk_before_it_takes_the_old_ones_place(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        done.append(f"fsync {os.readlink(f'/proc/self/fd/{descriptor}')}")
        fsync(descriptor)

    def noted_replace(old: Path, new: Path) -> Path:
        done.append("replace")
        return replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    file.create("alice")
    assert done == [f"fsync {file.path.with_name('.keys.json.new')}", "replace", f"fsync {file.path.parent}"]


@pytest.mark.parametrize("name", ["a\nb", "\udcff", "a\u2028b"])
def test_a_name_that_would_spoil_a_list(file: KeyFile, name: str) -> None:
    with pytest.raises(KeyFileError, match="printable"):
        file.create(name)
