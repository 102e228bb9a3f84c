"""open_clip's SimpleTokenizer as a tokenizer.json for Rust `tokenizers`, which production has instead of open_clip.

    SimpleTokenizer ─ vocabulary, merges, pattern, special tokens ─> tokenizer.json

The file holds everything after the cleaning of the text. Three things in it are deliberate:

- Character classes are written as code points, taken from the `regex` module, which is what open_clip splits with:
  Unicode versions differ between regular expression engines, and so would the tokens of newer letters.
- Special tokens are not added tokens. Those match anywhere, whereas open_clip finds one only where its pattern gets
  to it: in "!!<start_of_text>" the punctuation takes the "<" first. They stand in the pattern, and with their ids in
  the post-processor, where text_tokenize reads them.
- The first two special tokens frame each text, which the post-processor does.
"""

import json
from functools import cache
from typing import Any

import regex
from open_clip import tokenizer as reference
from tokenizers import Tokenizer

from tritonclip_server.export.errors import UnsupportedModel

# The end of open_clip's pattern: the special tokens come before it, and all of it ignores case.
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_CLASSES = ((r"[\p{L}]", "+"), (r"[\p{N}]", ""), (r"[^\s\p{L}\p{N}]", "+"))
_PATTERN_END = "|".join((*_CONTRACTIONS, *(member + repeat for member, repeat in _CLASSES)))


def document(tokenizer: reference.SimpleTokenizer) -> str:
    """The text of tokenizer.json, the same for the same vocabulary and `regex` version."""
    text = json.dumps(_document(tokenizer), ensure_ascii=False, separators=(",", ":"))
    Tokenizer.from_str(text)  # refuses what the serving side could not load
    return text


def check_supported(tokenizer: Any) -> None:
    """Raise UnsupportedModel for a tokenizer that text_tokenize cannot reproduce."""
    if not isinstance(tokenizer, reference.SimpleTokenizer):
        raise UnsupportedModel(
            f"text_tokenize serves open_clip's SimpleTokenizer and HFTokenizer; this model uses "
            f"{type(tokenizer).__name__}"
        )
    if tokenizer.reduction_fn is not None:
        raise UnsupportedModel("text_tokenize truncates; this model's tokenizer drops tokens by a reduction mask")
    special_tokens = _special_tokens(tokenizer)
    for token in special_tokens:
        # open_clip does not escape them in its pattern, and looks them up after mapping bytes to letters.
        if not regex.fullmatch("[!-~]+", token) or regex.escape(token, special_only=True) != token:
            raise UnsupportedModel(f"special token {token!r} is not plain ASCII without regular expression characters")
    if tokenizer.pat.pattern != "|".join(special_tokens) + "|" + _PATTERN_END:
        raise UnsupportedModel("this open_clip splits text by another pattern than text_tokenize was written for")


def _special_tokens(tokenizer: reference.SimpleTokenizer) -> dict[str, int]:
    return {tokenizer.decoder[index]: index for index in tokenizer.all_special_ids}


def _document(tokenizer: reference.SimpleTokenizer) -> dict[str, Any]:
    special_tokens = _special_tokens(tokenizer)
    start, end = list(special_tokens)[:2]
    vocabulary = dict(sorted(tokenizer.encoder.items(), key=lambda item: item[1]))
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": _pattern(list(special_tokens))},
                    "behavior": "Removed",
                    "invert": True,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_frame(start), {"Sequence": {"id": "A", "type_id": 0}}, _frame(end)],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                token: {"id": token, "ids": [index], "tokens": [token]} for token, index in special_tokens.items()
            },
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in merges],
        },
    }


def _frame(token: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": token, "type_id": 0}}


def _pattern(special_tokens: list[str]) -> str:
    """Write open_clip's pattern without anything that an engine looks up in its own Unicode tables."""
    literals = ["".join(_code_points(regex.escape(letter)) for letter in text) for text in special_tokens]
    literals += ["".join(_code_points(letter) for letter in text) for text in _CONTRACTIONS]
    return "|".join(literals + [_code_points(member) + repeat for member, repeat in _CLASSES])


@cache
def _code_points(one_character: str) -> str:
    """Write as a class of code points what this pattern of one character matches, case ignored as open_clip does."""
    found = regex.findall(one_character, _all_characters(), regex.IGNORECASE)
    ranges: list[list[int]] = []
    for code in map(ord, found):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(_span(first, last) for first, last in ranges) + "]"


def _span(first: int, last: int) -> str:
    return f"\\x{{{first:x}}}" if first == last else f"\\x{{{first:x}}}-\\x{{{last:x}}}"


@cache
def _all_characters() -> str:
    """Every code point that UTF-8 can carry."""
    return "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
