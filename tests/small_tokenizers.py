"""Small tokenizers of the kinds that open_clip's models take from the Hugging Face hub, trained on the spot.

Each is laid out as on the hub, so that open_clip's HFTokenizer loads it by its own way (transformers' AutoTokenizer).
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from open_clip.tokenizer import HFTokenizer
from transformers import (
    BertTokenizer,
    GemmaTokenizer,
    NllbTokenizer,
    RobertaTokenizer,
    T5Tokenizer,
    XLMRobertaTokenizer,
)

VOCABULARY = 3000


def _t5() -> Any:
    """SigLIP's: SentencePiece unigram, no start, and the end is the padding as well."""
    return T5Tokenizer(extra_ids=0, pad_token="</s>")


def _mt5() -> Any:
    return T5Tokenizer(extra_ids=0)


def _gemma() -> Any:
    """SigLIP 2's: byte pairs with bytes to fall back on, an end and no start, padded on the right."""
    return GemmaTokenizer(add_bos_token=False, add_eos_token=True, padding_side="right")


KINDS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "t5": (_t5, {"context_length": 64, "clean": "canonicalize"}),
    "mt5": (_mt5, {"context_length": 77, "clean": "canonicalize"}),
    "gemma": (_gemma, {"context_length": 64, "clean": "canonicalize"}),
    "xlm-roberta": (XLMRobertaTokenizer, {"context_length": 77}),
    "bert": (BertTokenizer, {"context_length": 32, "strip_sep_token": True}),
    "roberta": (RobertaTokenizer, {"context_length": 77}),
    "nllb": (NllbTokenizer, {"context_length": 77}),
}
"""How each begins, and what open_clip's configurations say of it."""


def train(kind: str, texts: Iterable[str], folder: Path) -> None:
    """Train a tokenizer of this kind and lay it out in a folder."""
    make, _ = KINDS[kind]
    make().train_new_from_iterator(list(texts), VOCABULARY).save_pretrained(folder)


def load(kind: str, folder: Path, **options: Any) -> HFTokenizer:
    """The tokenizer in a folder, with open_clip's options for its kind or others."""
    return HFTokenizer(str(folder), **(KINDS[kind][1] | options))
