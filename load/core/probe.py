"""The image and the sentence in a server's manifest, with eager open_clip's vectors of them: is this the right model?

Pure, for both kinds of load: `load.core.questions` asks over asyncio, `load.core.workload` in Locust's workers.
"""

import base64
from collections.abc import Mapping

import numpy as np

from load.core.checks import Check, References
from load.core.operations import EmbedImages, EmbedTexts, Task


class WrongModel(Exception):
    """The server does not answer what its manifest says it should."""


def probe_questions(probe: Mapping[str, str] | None) -> dict[str, tuple[Task, Check]]:
    """What to ask, by the name of its features, and the check of its answer.

    Manifests of older exports have no probe (None): then nothing can be checked.
    """
    if probe is None:
        return {}
    tasks: dict[str, Task] = {
        "image_features": EmbedImages([base64.b64decode(probe["image"])]),
        "text_features": EmbedTexts([probe["text"]]),
    }
    return {name: (task, _check(probe[name])) for name, task in tasks.items()}


def _check(encoded: str) -> Check:
    right = np.frombuffer(base64.b64decode(encoded), dtype="<f2").astype(np.float32)
    return References((right / np.linalg.norm(right))[None]).check([0])
