"""What a run has done so far, in a file of JSON lines that only grows, so that the next run can go on from there.

The first line says which run it is: fingerprint, label set, data set. Each other line is one image that the server has
answered: {"image": "cats/1.jpg", "best": [3, 17, 5, 0, 8]}. Images that failed are not in it; the next run tries them
again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from tritonclip._errors import ConfigError

_FORMAT = 1


class Journal:
    """The images answered so far (``finished``: the best indices by image name), kept in a file where one is given.

    ``run`` says which run it is. A file of another run, or one that is no journal, raises ConfigError. A last line
    that was not written to its end (the process was killed) is dropped.
    """

    def __init__(self, path: Path | None, run: Mapping[str, Any]) -> None:
        self.finished: dict[str, tuple[int, ...]] = {}
        self._file: BinaryIO | None = None
        if path is None:
            return
        head = _line({"tritonclip_journal": _FORMAT, **run})
        data = path.read_bytes() if path.exists() else b""
        complete = data[: data.rfind(b"\n") + 1]
        if complete:
            first, *lines = complete.splitlines()
            _check_run(path, first, json.loads(head))
            self.finished = dict(_read_entry(path, number, line) for number, line in enumerate(lines, start=2))
        elif not head.startswith(data):
            raise ConfigError(f"{path} is not the journal of an evaluation; it was left as it is")
        self._file = path.open("ab")
        self._file.truncate(len(complete))
        if not complete:
            self._write(head)

    def add(self, entries: Mapping[str, tuple[int, ...]]) -> None:
        """Keep what the server has answered; from here on the death of this process does not lose it."""
        self.finished.update(entries)
        self._write(b"".join(_line({"image": name, "best": best}) for name, best in entries.items()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
            self._file.flush()


def _check_run(path: Path, line: bytes, run: Mapping[str, Any]) -> None:
    try:
        found = json.loads(line)
        theirs = {name: found[name] for name in run}
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{path} is not the journal of an evaluation; it was left as it is") from exc
    other = [f"{name} {theirs[name]}, now {run[name]}" for name in run if theirs[name] != run[name]]
    if other:
        raise ConfigError(f"{path} belongs to another run ({'; '.join(other)}): give another file to start anew")


def _read_entry(path: Path, number: int, line: bytes) -> tuple[str, tuple[int, ...]]:
    try:
        entry = json.loads(line)
        return str(entry["image"]), tuple(int(index) for index in entry["best"])
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{path}, line {number}: not an entry of an evaluation's journal") from exc


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
