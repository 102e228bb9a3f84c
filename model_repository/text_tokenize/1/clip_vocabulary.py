"""Cleaned text to ids as open_clip's SimpleTokenizer has them, from the tokenizer.json that the exporter wrote."""

import json
from collections.abc import Sequence

from token_rows import RowLayout
from tokenizers import Tokenizer


class ClipVocabulary:
    """CLIP's byte pair encoding. Ids come framed, [start] … [end], of any length."""

    layout = RowLayout()

    def __init__(self, document: str) -> None:
        """`document` is the JSON text of tokenizer.json."""
        self._tokenizer = Tokenizer.from_str(document)
        special_tokens = json.loads(document)["post_processor"]["special_tokens"]
        self._special_ids: dict[str, int] = {token: entry["ids"][0] for token, entry in special_tokens.items()}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        encodings = iter(self._tokenizer.encode_batch_fast([t for t in texts if not self._has_special_tokens(t)]))
        return [
            self._with_special_tokens(text) if self._has_special_tokens(text) else next(encodings).ids for text in texts
        ]

    def _has_special_tokens(self, text: str) -> bool:
        return any(token in text for token in self._special_ids)

    def _with_special_tokens(self, text: str) -> list[int]:
        """Encode a text in which special tokens are spelled out.

        The Rust model knows no special tokens (the exporter's clip_tokenizer.py says why), so here each piece is looked
        up first, as open_clip does.
        """
        start, end = list(self._special_ids.values())[:2]
        known = {token: [index] for token, index in self._special_ids.items()}
        ids = [start]
        for piece, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(text):
            if piece not in known:
                known[piece] = [token.id for token in self._tokenizer.model.tokenize(piece)]
            ids.extend(known[piece])
        return [*ids, end]
