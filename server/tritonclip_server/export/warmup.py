"""The texts that text_encoder is warmed up with: one for each length at which it computes, in Triton's own format.

A file under text_encoder/warmup/ holds the tokens of one text, and each item of a warm-up batch is that text.
"""

from pathlib import Path

import numpy as np

from tritonclip_server.export.configs import Deployment
from tritonclip_server.export.encoders import LENGTHS


def write_warmup_texts(repository: Path, deployment: Deployment) -> None:
    """Write the files that text_encoder's config names, each an int32 [context] whose end is the last token that fits.

    `ends_last` fills the whole context.
    """
    folder = repository / "text_encoder" / "warmup"
    folder.mkdir(exist_ok=True)
    context = deployment.tokenizer.context_length
    for name, length in ({f"ends_at_{n}": n for n in LENGTHS} | {"ends_last": context}).items():
        tokens = np.full(context, deployment.tokenizer.pad_id, "<i4")
        tokens[:length] = 0
        tokens[min(length, context) - 1] = deployment.tokenizer.end_id
        (folder / name).write_bytes(tokens.tobytes())
