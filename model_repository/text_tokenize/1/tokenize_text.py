"""UTF-8 sentences in, CLIP's token ids out: open_clip's SimpleTokenizer without open_clip, torch or `regex`.

    bytes ─check─> text ─clean─> pieces ─byte pairs─> [start] ids [end] 0 0 … as one int32 row, and how many there were

Cleaning is open_clip's own (ftfy, HTML entities, white space, case), with a bound on its work (text_repair.py).
Splitting and byte pair encoding run in Rust, from the tokenizer.json that the exporter writes beside this file. Nothing
here knows Triton.
"""

import html
import json
import os
import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from text_repair import TooGarbled, fix_text
from tokenizers import Tokenizer

# Instances are processes, as many as the host is given for this; threads of their own would only compete.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

Rows = NDArray[np.int32]
Counts = list[int]


class InvalidText(ValueError):
    """A text that cannot be used; the message names its index in the request and the reason, for the sender."""


class MalformedEntity(ValueError):
    """An HTML entity that cannot be resolved."""


class TextTokenizer:
    """The tokenizer of one model: rows of `context_length` ids, zero after the end.

    Raises FileNotFoundError where the exporter has not written tokenizer.json.
    """

    def __init__(
        self, path: Path, *, context_length: int = 77, clean: str = "lower", max_text_bytes: int = 40_000
    ) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: run `tritonclip-server export VARIANT`, which writes it")
        self.context_length = context_length
        self.max_text_bytes = max_text_bytes
        self._clean = CLEANING[clean]
        document = path.read_text(encoding="utf-8")
        self._tokenizer = Tokenizer.from_str(document)
        special_tokens = json.loads(document)["post_processor"]["special_tokens"]
        self._special_ids: dict[str, int] = {token: entry["ids"][0] for token, entry in special_tokens.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], folder: Path) -> "TextTokenizer":
        """Read Triton's model configuration (parsed JSON): the width of `tokens` and the parameters.

        Raises ValueError for a parameter or a value it does not know, naming the parameter.
        """
        dims = next(output["dims"] for output in config["output"] if output["name"] == "tokens")
        if len(dims) != 1 or int(dims[0]) < 3:
            raise ValueError(f"output tokens: dims must be [context length], at least 3, not {dims}")
        given = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        for name in given.keys() - PARAMETERS:
            raise ValueError(f"parameter {name}: there are {', '.join(sorted(PARAMETERS))}")
        clean, limit = given.get("clean", "lower"), given.get("max_text_bytes", "40000")
        if clean not in CLEANING:
            raise ValueError(f"parameter clean: {clean!r} is not one of {', '.join(CLEANING)}")
        if not limit.isdecimal() or int(limit) < 1:
            raise ValueError(f"parameter max_text_bytes: {limit!r} is not a whole number of at least 1")
        return cls(folder / "tokenizer.json", context_length=int(dims[0]), clean=clean, max_text_bytes=int(limit))

    def fill(self, rows: Rows, texts: Iterable[bytes]) -> Counts:
        """Write the ids of n texts into `rows`, int32 [n, context_length]; give how many tokens each text has.

        A text of more than `context_length` is cut there, and its last id is the end all the same. Raises InvalidText
        for the first bad text.
        """
        cleaned = [self._cleaned(index, data) for index, data in enumerate(texts)]
        encodings = iter(self._tokenizer.encode_batch_fast([t for t in cleaned if not self._has_special_tokens(t)]))
        counts = []
        for row, text in zip(rows, cleaned, strict=True):
            ids = self._with_special_tokens(text) if self._has_special_tokens(text) else next(encodings).ids
            row[: len(ids)] = ids[: len(row)]
            row[len(ids) :] = 0
            row[-1] = ids[-1] if len(ids) > len(row) else row[-1]
            counts.append(len(ids))
        return counts

    def _cleaned(self, index: int, data: bytes) -> str:
        if len(data) > self.max_text_bytes:
            raise InvalidText(f"text {index}: {len(data)} bytes, more than the limit of {self.max_text_bytes}")
        try:
            return self._clean(data.decode())
        except UnicodeDecodeError as error:
            raise InvalidText(f"text {index}: not UTF-8 at byte {error.start} ({error.reason})") from error
        except (TooGarbled, MalformedEntity) as error:
            raise InvalidText(f"text {index}: {error}") from error

    def _has_special_tokens(self, text: str) -> bool:
        return any(token in text for token in self._special_ids)

    def _with_special_tokens(self, text: str) -> list[int]:
        """Encode a text in which special tokens are spelled out.

        The Rust model knows no special tokens (the exporter's tokenizer.py says why), so here each piece is looked up
        first, as open_clip does.
        """
        start, end = list(self._special_ids.values())[:2]
        known = {token: [index] for token, index in self._special_ids.items()}
        ids = [start]
        for piece, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(text):
            if piece not in known:
                known[piece] = [token.id for token in self._tokenizer.model.tokenize(piece)]
            ids.extend(known[piece])
        return [*ids, end]


def _basic(text: str) -> str:
    """Repair the encoding, resolve HTML entities (twice, as they come doubly escaped in web captions), strip."""
    repaired = fix_text(text)
    try:
        return html.unescape(html.unescape(repaired)).strip()
    except ValueError as error:  # Python's own limit of digits, and open_clip's with it
        raise MalformedEntity("a character reference of thousands of digits") from error


def _whitespace(text: str) -> str:
    return " ".join(_basic(text).split())


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    return " ".join(_basic(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
PARAMETERS = {"clean", "max_text_bytes"}
CLEANING: dict[str, Callable[[str], str]] = {"lower": _lower, "whitespace": _whitespace, "canonicalize": _canonicalize}
