"""A fast tokenizer of the Hugging Face hub as one tokenizer.json, so that serving needs nothing of transformers.

The Rust tokenizer inside of it does all the work, once it is told how rows are padded and on which side texts are cut,
which transformers keeps outside of it and gives with each call.
"""

from typing import Any

from open_clip.tokenizer import HFTokenizer
from tokenizers import Tokenizer

from tritonclip_server.export.errors import UnsupportedModel


def check_supported(tokenizer: HFTokenizer) -> None:
    """Raise UnsupportedModel for one whose ids text_tokenize would not give."""
    name = type(tokenizer.tokenizer).__name__
    if tokenizer.tokenizer_mode:
        raise UnsupportedModel(f"its tokenizer works in open_clip's mode {tokenizer.tokenizer_mode!r}: not served")
    if not getattr(tokenizer.tokenizer, "is_fast", False):
        raise UnsupportedModel(f"its tokenizer, {name}, has no fast form (a tokenizer.json), which is what is served")
    if tokenizer.tokenizer.pad_token_id is None:
        raise UnsupportedModel(f"its tokenizer, {name}, has no padding token, with which open_clip fills rows")
    if tokenizer.strip_sep_token and tokenizer.tokenizer.sep_token_id is None:
        raise UnsupportedModel(f"its tokenizer, {name}, has no separator, which open_clip is to strip")


def end_id(tokenizer: HFTokenizer) -> int:
    """The id that ends a text: the last special token of its frame, or the last one of a text where it has none."""
    framed: list[int] = tokenizer.tokenizer.backend_tokenizer.encode("a").ids
    return framed[-1]


def stripped_id(tokenizer: HFTokenizer) -> int | None:
    """The id that is written as 0, if any."""
    return int(tokenizer.tokenizer.sep_token_id) if tokenizer.strip_sep_token else None


def document(tokenizer: HFTokenizer) -> str:
    """The text of tokenizer.json."""
    hub = tokenizer.tokenizer
    copy: Any = Tokenizer.from_str(hub.backend_tokenizer.to_str())
    length = int(tokenizer.context_length or 0)
    copy.enable_truncation(max_length=length, direction=hub.truncation_side)
    copy.enable_padding(
        direction=hub.padding_side,
        pad_id=hub.pad_token_id,
        pad_type_id=hub.pad_token_type_id,
        pad_token=hub.pad_token,
        length=length,
    )
    text: str = copy.to_str()
    return text
