"""An index of the sample images, so that a newcomer's first search is one command or one click.

It is made by the command that users have, in a process of its own: the store's threads and memory are no part of a
launcher, and what goes wrong with it stops nothing else.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tritonclip_server.embedded.family import Stopping
from tritonclip_server.resources import SAMPLES

NAME = "samples"  # by which the gateway serves it
SOURCES = (SAMPLES / "scenes" / "captions.csv", SAMPLES / "photos")
LOOK_SECONDS = 0.2  # between two looks whether to stop


def build_sample_index(
    folder: Path, url: str, fingerprint: str, say: Callable[[str], object], stopping: Stopping
) -> bool:
    """Have an index of the samples in `folder`, made anew where it has another model's vectors; whether it is there.

    `fingerprint` is that of the model at `url`. What keeps the index from being made is said in a line.
    """
    add = ("index", "add", str(folder), *map(str, SOURCES), "--url", url)
    done = _tritonclip(*add, stopping=stopping)
    if done.returncode and _is_of_another_model(folder, fingerprint, stopping):
        shutil.rmtree(folder)
        done = _tritonclip(*add, stopping=stopping)
    if done.returncode and not stopping():
        said = done.stderr.strip().splitlines() or [f"`tritonclip index add` ended with code {done.returncode}"]
        say(f"no index of the sample images: {said[-1].removeprefix('tritonclip: ')}")
    return not done.returncode


def _is_of_another_model(folder: Path, fingerprint: str, stopping: Stopping) -> bool:
    """Whether there is an index whose vectors are no use to the model that is served."""
    done = _tritonclip("index", "info", str(folder), "--format", "json", stopping=stopping)
    return not done.returncode and json.loads(done.stdout)["fingerprint"] != fingerprint


def _tritonclip(*arguments: str, stopping: Stopping) -> "subprocess.CompletedProcess[str]":
    """The command, run to its end, or until it shall stop."""
    command = [sys.executable, "-m", "tritonclip.cli", *arguments]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        while True:
            try:
                said, problems = process.communicate(timeout=LOOK_SECONDS)
                return subprocess.CompletedProcess(command, process.returncode, said, problems)
            except subprocess.TimeoutExpired:
                if stopping():
                    process.kill()
