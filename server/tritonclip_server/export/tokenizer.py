"""A model's tokenizer as what text_tokenize reads: tokenizer.json, and the settings for its configuration.

SimpleTokenizer ──clip_tokenizer──┐
HFTokenizer ──────hub_tokenizer───┴──> tokenizer.json, TokenizerSettings
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_clip import tokenizer as reference

from tritonclip_server.export import clip_tokenizer, hub_tokenizer
from tritonclip_server.export.errors import UnsupportedModel

CLEAN_NAMES = {
    reference._clean_lower: "lower",
    reference._clean_whitespace: "whitespace",
    reference._clean_canonicalize: "canonicalize",
}


@dataclass(frozen=True)
class TokenizerSettings:
    """What configurations need beside the file."""

    clean: str
    context_length: int  # the width of `tokens`
    end_id: int  # of the token that ends a text
    pad_id: int = 0  # of what comes behind it
    vocabulary: str = "clip"  # or "hub": which of text_tokenize's two reads the file
    stripped_id: int | None = None  # written as 0 (open_clip's strip_sep_token)

    def parameters(self) -> dict[str, str]:
        """Those of text_tokenize's config."""
        stripped = {} if self.stripped_id is None else {"stripped_id": str(self.stripped_id)}
        vocabulary = {} if self.vocabulary == "clip" else {"vocabulary": self.vocabulary}
        return {"clean": self.clean, **vocabulary, **stripped}


def tokenizer_settings(tokenizer: Any) -> TokenizerSettings:
    """Read the settings. Raises UnsupportedModel for a tokenizer that text_tokenize cannot reproduce."""
    if isinstance(tokenizer, reference.HFTokenizer):
        hub_tokenizer.check_supported(tokenizer)
        end, stripped = hub_tokenizer.end_id(tokenizer), hub_tokenizer.stripped_id(tokenizer)
        pad = tokenizer.tokenizer.pad_token_id
        return TokenizerSettings(_clean_name(tokenizer), _context_length(tokenizer), end, pad, "hub", stripped)
    clip_tokenizer.check_supported(tokenizer)
    return TokenizerSettings(_clean_name(tokenizer), _context_length(tokenizer), tokenizer.eot_token_id)


def write_tokenizer(tokenizer: Any, path: Path) -> str:
    """Write tokenizer.json; give its SHA-256, which is the same for the same vocabulary and package versions.

    Raises UnsupportedModel for a tokenizer that text_tokenize cannot reproduce.
    """
    text = _document(tokenizer)
    path.write_text(text, encoding="utf-8")
    return _digest(text)


def tokenizer_digest(tokenizer: Any) -> str:
    """The same SHA-256, without writing anything."""
    return _digest(_document(tokenizer))


def _document(tokenizer: Any) -> str:
    settings = tokenizer_settings(tokenizer)
    make = hub_tokenizer.document if settings.vocabulary == "hub" else clip_tokenizer.document
    return make(tokenizer)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _clean_name(tokenizer: Any) -> str:
    if tokenizer.clean_fn not in CLEAN_NAMES:
        raise UnsupportedModel(f"text_tokenize does not know the cleaning function {tokenizer.clean_fn!r}")
    return CLEAN_NAMES[tokenizer.clean_fn]


def _context_length(tokenizer: Any) -> int:
    if not tokenizer.context_length or tokenizer.context_length < 3:
        raise UnsupportedModel(f"text_tokenize needs a context length of at least 3, not {tokenizer.context_length}")
    return int(tokenizer.context_length)
