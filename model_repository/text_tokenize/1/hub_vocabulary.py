"""Cleaned text to ids by a fast tokenizer of the Hugging Face hub, as open_clip's HFTokenizer has them.

Its tokenizer.json holds everything: the vocabulary, the special tokens that frame a text, how rows are padded and on
which side texts are cut.
"""

from collections.abc import Sequence

from token_rows import RowLayout
from tokenizers import Tokenizer


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
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def _frame(self) -> tuple[int, int]:
        """How many special tokens stand before a text, and how many after it."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        framed = self._tokenizer.encode("a").ids
        added = len(framed) - len(bare)
        prefix = next(start for start in range(added + 1) if framed[start : start + len(bare)] == bare)
        return prefix, added - prefix
