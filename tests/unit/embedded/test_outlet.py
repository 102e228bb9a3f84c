"""Logging never stops what is logged: full disks, pipes that nobody reads, files at their limit."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import wait_for
from tritonclip_server.embedded.family import Family, drain
from tritonclip_server.embedded.outlet import QUEUED_LINES, Descriptor, LogFile, Outlet

ALL_SECONDS = 60.0  # for a test that looks at what was written: a machine may stand still for a while


class Sink:
    """Keeps lines; `trouble` is raised instead, `gate` holds a writer up until it is opened.

    `begun` counts the writes, and `refused` those that ended in trouble.
    """

    def __init__(self) -> None:
        self.written = b""
        self.trouble: OSError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False
        self.begun = 0
        self.refused = 0

    def write(self, line: bytes) -> None:
        self.begun += 1
        self.gate.wait(30)
        if self.trouble is not None:
            self.refused += 1
            raise self.trouble
        self.written += line

    def close(self) -> None:
        self.closed = True


def test_lines_arrive_in_their_order_and_the_sink_is_closed() -> None:
    sink = Sink()
    outlet = Outlet(sink, "log")
    for number in range(100):
        outlet.put(f"line {number} \udcff")
    outlet.close(ALL_SECONDS)
    assert sink.written.decode() == "".join(f"line {number} \\udcff\n" for number in range(100))
    assert sink.closed


def test_a_full_disk_costs_lines_which_are_counted_and_is_said_once() -> None:
    sink, told = Sink(), list[str]()
    outlet = Outlet(sink, "the log", told.append)
    outlet.put("before")
    wait_for(lambda: sink.written == b"before\n")
    sink.trouble = OSError(28, "No space left on device")
    for _ in range(7):
        outlet.put("lost")
    wait_for(lambda: sink.refused == 7)
    sink.trouble = None
    outlet.put("after")
    outlet.put("later")
    outlet.close(ALL_SECONDS)
    assert sink.written == b"before\n\n[7 lines were lost]\nafter\nlater\n"
    assert told == [
        "warning: the log: No space left on device; lines for it are lost meanwhile",
        "the log: written again; 7 lines were lost",
    ]


def test_a_sink_that_hangs_holds_nobody_up() -> None:
    sink = Sink()
    sink.gate.clear()
    outlet = Outlet(sink, "log")
    outlet.put("0")
    wait_for(lambda: sink.begun == 1)  # it hangs in the sink
    for number in range(1, 3 * QUEUED_LINES):  # more than are kept: `put` would wait for ever
        outlet.put(str(number))
    outlet.close(seconds=0.1)  # nor does this wait for ever
    sink.gate.set()
    wait_for(lambda: sink.begun == 1 + QUEUED_LINES)
    outlet.put("after")
    wait_for(lambda: sink.written.endswith(b"after\n"))
    lost = sum(int(count) for count in re.findall(rb"^\[(\d+) lines were lost\]$", sink.written, re.MULTILINE))
    kept = len(re.findall(rb"^\d+$", sink.written, re.MULTILINE))
    assert lost + kept == 3 * QUEUED_LINES
    assert kept >= QUEUED_LINES


def test_a_closed_standard_error_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    outlet = Outlet(Descriptor(writer), "standard error")
    outlet.put("nobody reads this")
    outlet.close(ALL_SECONDS)
    os.close(writer)


def test_a_file_is_turned_over_at_its_limit_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "log"
    file = LogFile(path, most_bytes=10, older=2)
    for letter in b"abcd":
        file.write(bytes([letter]) * 5 + b"\n")
        file.write(b"-\n")
    file.close()
    files = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    assert files == {"log": b"ddddd\n-\n", "log.1": b"ccccc\n-\n", "log.2": b"bbbbb\n-\n"}
    again = LogFile(path, most_bytes=10, older=2)
    again.write(b"e\n")
    again.write(b"f\n")
    again.close()
    assert path.read_bytes() == b"f\n"
    assert (path.parent / "log.1").read_bytes() == b"ddddd\n-\ne\n"


def test_where_no_new_file_can_be_made_the_old_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    file = LogFile(path, most_bytes=4, older=2)
    file.write(b"one\n")
    really = os.open
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                file.write(b"lost\n")
    assert os.open is really
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"two\n"
    assert (tmp_path / "log.1").read_bytes() == b"one\n"
    assert not (tmp_path / "log.2").exists()


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def pipe_without_reader(path: Path) -> Path:
    os.mkfifo(path)
    return path


def below_a_file(path: Path) -> Path:
    path.write_text("")
    return path / "log"


@pytest.mark.parametrize("make", [folder, pipe_without_reader, below_a_file])
def test_what_cannot_be_a_log_is_refused_when_it_is_opened(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"directory|such device|exists"):
        LogFile(make(tmp_path / "log"))


LINES = 20_000  # 1 MB: many times what a pipe holds
PRINTS = f"for number in range({LINES}): print('a line of some length, number', number)"


def test_a_program_whose_log_is_full_is_not_held_up() -> None:
    """The real device that is always full, and a program that prints more than fits into its pipe."""
    told, seen = list[str](), list[str]()
    outlet = Outlet(LogFile(Path("/dev/full")), "/dev/full", told.append)
    family = Family([sys.executable, "-c", PRINTS], os.environ)

    def take(line: str) -> None:
        seen.append(line)
        outlet.put(line)

    reader = threading.Thread(target=drain, args=(family.output, take))
    reader.start()
    try:
        assert family.wait(60)
        assert family.poll() == 0
    finally:
        family.kill()
        reader.join(30)
    outlet.close(ALL_SECONDS)
    assert len(seen) == LINES
    assert told == ["warning: /dev/full: No space left on device; lines for it are lost meanwhile"]


def test_a_line_without_an_end_comes_in_pieces() -> None:
    process = subprocess.Popen([sys.executable, "-c", "print('x' * 1_000_000, end='')"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    seen: list[str] = []
    drain(process.stdout, seen.append)
    assert process.wait() == 0
    assert len(seen) > 10
    assert "".join(seen) == "x" * 1_000_000
