"""Texts of the benchmark: new captions served, beside the bare text encoder on captions and on texts of full length.

text_efficiency    served ÷ bare, both on short captions: what serving costs
short_text_ratio   served captions ÷ bare texts that fill the context: what their shortness is worth
"""

import statistics
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from load.capacity.baseline import BareEncoder

CAPTION = "a photo of object number 1234"
Rate = Callable[[], float]


def tokens(text: str, context_length: int) -> Tensor:
    """The tokens of a text for the bare encoder, int32 [context_length]."""
    ids: Tensor = SimpleTokenizer(context_length=context_length)(text)[0]
    return ids.to(torch.int32)


def measure_texts(
    artifact: Path, context_length: int, served: Rate, *, rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Rates of `served`, new captions a second, and of the bare encoder, in turn for so many rounds."""
    with ExitStack() as stack:
        caption, whole = (
            stack.enter_context(closing(BareEncoder(artifact, tokens(text, context_length))))
            for text in (CAPTION, CAPTION * context_length)
        )
        say("bare text encoder at each batch size, on captions and on texts of full length")
        by_batch, whole_by_batch = caption.find_best_batch(), whole.find_best_batch()
        ways: dict[str, Rate] = {
            "served": served,
            "bare": lambda: caption.items_per_s(seconds),
            "whole": lambda: whole.items_per_s(seconds),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            say(f"texts, round {number + 1} of {rounds}: served, bare, bare at full length")
            for name, rate in ways.items():
                found[name].append(rate())
        best = caption.batch_size
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    return {
        "texts_per_s": round(medians["served"], 1),
        "bare_texts_per_s": round(medians["bare"], 1),
        "bare_whole_texts_per_s": round(medians["whole"], 1),
        "text_efficiency": round(medians["served"] / medians["bare"], 4),
        "text_efficiency_by_round": [round(s / b, 4) for s, b in zip(found["served"], found["bare"], strict=True)],
        "short_text_ratio": round(medians["served"] / medians["whole"], 4),
        "bare_text_best_batch": best,
        "bare_texts_per_s_by_batch": {size: round(rate, 1) for size, rate in by_batch.items()},
        "bare_whole_texts_per_s_by_batch": {size: round(rate, 1) for size, rate in whole_by_batch.items()},
    }
