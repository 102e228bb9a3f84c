"""When the resize is compiled: once for a machine, and not at all where Pillow resizes. In processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.modules import MODELS

FOLDER = MODELS / "image_preprocess" / "1"
COMPILED = ("_window", "_weigh", "_resize", "_separate")
COUNT = f"""
import json, resample
stats = [getattr(resample, name).stats for name in {COMPILED}]
print(json.dumps([[sum(found.cache_hits.values()), sum(found.cache_misses.values())] for found in stats]))
"""
WITHOUT_NUMBA = """
import sys, preprocess
preprocess.Preprocessor((8, 8), resize="pillow")
before = "numba" in sys.modules
preprocess.Preprocessor((8, 8))
print([before, "numba" in sys.modules])
"""


def said(code: str, cache: Path) -> str:
    """What the code prints in a process that may import the model's modules."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(FOLDER)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def written(cache: Path) -> dict[Path, Any]:
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.nb?")}


def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    assert json.loads(said(COUNT, tmp_path)) == [[0, 1]] * len(COMPILED)
    first = written(tmp_path)
    assert len(first) == 2 * len(COMPILED), "an index and the code of each function"
    assert json.loads(said(COUNT, tmp_path)) == [[1, 0]] * len(COMPILED)
    assert written(tmp_path) == first
    # And the compiler is loaded by nobody who has chosen to do without.
    assert said(WITHOUT_NUMBA, tmp_path) == "[False, True]"
