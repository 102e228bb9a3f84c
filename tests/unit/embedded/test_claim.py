"""What dead servers left is removed, what living ones use is not."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tritonclip_server.embedded import claim
from tritonclip_server.embedded.claim import Claim, clear_abandoned, new_identity
from tritonclip_server.embedded.errors import EnvironmentProblem
from tritonclip_server.embedded.family import Family

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """TMPDIR and shared memory of these tests alone: others run servers beside them."""
    folders, memory = tmp_path / "tmp", tmp_path / "shm"
    folders.mkdir()
    memory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    monkeypatch.setattr(claim, "SHARED_MEMORY", memory)
    return folders, memory


def test_a_claim_is_held_until_it_is_released(places: tuple[Path, Path]) -> None:
    folders, memory = places
    held = Claim(new_identity())
    (held.folder / "backend").write_text("x")
    region = memory / f"{held.identity}region"
    region.write_text("x")
    clear_abandoned()
    assert (held.folder / "backend").exists()
    assert region.exists()
    held.clear_shared_memory()
    clear_abandoned()
    assert not region.exists()
    assert held.folder.exists()
    region.write_text("x")
    held.release()
    assert [*folders.iterdir(), *memory.iterdir()] == []


def test_what_is_not_locked_is_removed_whoever_has_the_process_id_now(places: tuple[Path, Path]) -> None:
    folders, memory = places
    gone = f"tritonclip-{os.getpid()}-00000000"  # a process id that is in use again, by this very process
    (memory / f"{gone}.lock").touch()
    (memory / f"{gone}abc-def").touch()
    folder = folders / gone.replace("tritonclip-", "tritonclip-backends-")
    (folder / "python").mkdir(parents=True)
    (folder / "python" / "stub").touch()
    clear_abandoned()
    assert [*folders.iterdir(), *memory.iterdir()] == []


def test_what_has_no_lock_goes_by_its_process(places: tuple[Path, Path]) -> None:
    """As older versions left it."""
    _, memory = places
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    (memory / f"tritonclip-{ended.pid}-0123abcd-region").touch()
    living = memory / f"tritonclip-{os.getpid()}-0123abcd-region"
    living.touch()
    clear_abandoned()
    assert list(memory.iterdir()) == [living]


def test_nothing_else_is_touched(places: tuple[Path, Path]) -> None:
    folders, memory = places
    others = [
        folders / "tritonclip-backends-x1y2z3",
        folders / "tritonclip-service-1-00000000",
        memory / "tritonclip-x",
    ]
    others += [memory / "other-99999999-00000000", folders / "x-tritonclip-backends-1-00000000"]
    for path in others:
        path.mkdir()
    clear_abandoned()
    assert all(path.exists() for path in others)


def test_a_lock_lives_on_in_the_keeper(places: tuple[Path, Path]) -> None:
    """The launcher is gone, its processes are not yet: what they use is still theirs."""
    held = Claim(new_identity())
    family = Family([sys.executable, "-c", "import time; time.sleep(60)"], os.environ, claim=held)
    try:
        for descriptor in held.descriptors:  # as the kernel does where a launcher dies
            os.close(descriptor)
        clear_abandoned()
        assert held.folder.exists()
    finally:
        family.kill()
    clear_abandoned()
    assert not held.folder.exists()


def test_a_process_that_is_killed_lets_go(places: tuple[Path, Path]) -> None:
    folders, memory = places
    code = (
        "import os, sys, tempfile, pathlib, signal; from tritonclip_server.embedded import claim\n"
        "tempfile.tempdir, claim.SHARED_MEMORY = sys.argv[1], pathlib.Path(sys.argv[2])\n"
        "claim.Claim(claim.new_identity()); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folders), str(memory)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert len([*folders.iterdir(), *memory.iterdir()]) == 2
    clear_abandoned()
    assert [*folders.iterdir(), *memory.iterdir()] == []


def test_no_place_is_an_error_that_names_tmpdir(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(EnvironmentProblem, match="TMPDIR"):
        Claim(new_identity())
