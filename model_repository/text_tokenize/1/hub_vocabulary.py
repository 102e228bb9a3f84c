"""Cleaned text to ids by a fast tokenizer of the Hugging Face hub, as open_clip's HFTokenizer has them.

Its tokenizer.json holds everything: the vocabulary, the special tokens that frame a text, how rows are padded and on
which side texts are cut.

A tokenizer of many languages (NLLB's) frames a text with the code of one, by default its own. A text that begins with
another code, as in `fra_Latn un chat`, is framed with that, as transformers does by `src_lang`.
"""

import re
from collections.abc import Sequence

from token_rows import RowLayout
from tokenizers import Tokenizer

LANGUAGE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}", re.ASCII)  # ISO 639-3 and ISO 15924, as FLORES-200 has them


class HubVocabulary:
    """Any model of `tokenizers`. Ids come framed by the tokenizer's own special tokens, of any length."""

    def __init__(self, document: str, stripped_id: int | None = None) -> None:
        """`document` is the JSON text of tokenizer.json; ValueError where it does not say how rows are padded."""
        self._tokenizer = Tokenizer.from_str(document)
        padding, truncation = self._tokenizer.padding, self._tokenizer.truncation
        if padding is None or truncation is None:
            raise ValueError("tokenizer.json does not say how rows are padded and cut: publish the repository again")
        # Texts are cut here, in the same way, so that it is known how many tokens each has.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        prefix, suffix = self._frame()
        self._languages, self._language_place = self._find_languages(prefix)
        self.layout = RowLayout(
            prefix=prefix,
            suffix=suffix,
            pad_id=padding["pad_id"],
            pads_left=padding["direction"] == "left",
            cuts_left=truncation["direction"] == "left",
            stripped_id=stripped_id,
        )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        named = [self._split_language(text) for text in texts]
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast([text for _, text in named])]
        for row, (language, _) in zip(rows, named, strict=True):
            if language is not None:
                row[self._language_place] = language
        return rows

    def _split_language(self, text: str) -> tuple[int | None, str]:
        """The id of the language whose code a text begins with, and what comes after it."""
        code, _, rest = text.partition(" ") if self._languages else ("", "", "")
        language = self._languages.get(code)
        return (None, text) if language is None else (language, rest)

    def _frame(self) -> tuple[int, int]:
        """How many special tokens stand before a text, and how many after it."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        framed = self._tokenizer.encode("a").ids
        added = len(framed) - len(bare)
        prefix = next(start for start in range(added + 1) if framed[start : start + len(bare)] == bare)
        return prefix, added - prefix

    def _find_languages(self, prefix: int) -> tuple[dict[str, int], int]:
        """The ids of the languages by their codes, and where in a framed text one stands; none, where none does."""
        framed = self._tokenizer.encode("a").ids
        added = self._tokenizer.get_added_tokens_decoder().items()
        languages = {token.content: index for index, token in added if LANGUAGE.fullmatch(token.content)}
        for place, index in enumerate(framed):
            if index in languages.values():
                return languages, place if place < prefix else place - len(framed)
        return {}, 0
