"""What every Python program here embeds and ranks, and how it says what came back."""

import base64
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

INPUTS = json.loads(Path(os.environ["INPUTS"]).read_text(encoding="utf-8"))
TEXTS, QUERY, DOCUMENTS, LABELS = (INPUTS[name] for name in ("texts", "query", "documents", "labels"))
MANY = [INPUTS["many"]["template"].format(number) for number in range(INPUTS["many"]["count"])]
SOME = MANY[: INPUTS["many"]["some"]]
IMAGES = [Path(name) for name in INPUTS["images"]]
BASE64 = [base64.b64encode(path.read_bytes()).decode() for path in IMAGES]
DATA_URLS = ["data:image/jpeg;base64," + encoded for encoded in BASE64]


def answer(**cases: Callable[[], object]) -> None:
    """Carry out each case, and write what it gives, or its error, with its seconds, as JSON to the file in ANSWER."""
    said = {name: _outcome(case) for name, case in cases.items()}
    Path(os.environ["ANSWER"]).write_text(json.dumps(said, default=lambda value: value.tolist()), encoding="utf-8")


def _outcome(case: Callable[[], object]) -> Mapping[str, object]:
    """Give the result or the error of one case: another case is not its victim."""
    begun = time.perf_counter()
    try:
        return {"result": case(), "seconds": time.perf_counter() - begun}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:2000], "seconds": time.perf_counter() - begun}
