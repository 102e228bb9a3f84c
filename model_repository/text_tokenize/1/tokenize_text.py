"""UTF-8 sentences in, token ids out: open_clip's tokenizers without open_clip, torch, `regex` or transformers.

    bytes ─check─> text ─clean─> text ─vocabulary─> [start] ids [end] ─layout─> one int32 row, and how many there were

Cleaning is open_clip's own (ftfy, HTML entities, white space, case), with a bound on its work (text_repair.py).
Splitting and encoding run in Rust, from the tokenizer.json that the exporter writes beside this file: CLIP's byte pairs
(clip_vocabulary.py), or a fast tokenizer of the Hugging Face hub (hub_vocabulary.py). Nothing here knows Triton.
"""

import html
import os
import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from clip_vocabulary import ClipVocabulary
from hub_vocabulary import HubVocabulary
from numpy.typing import NDArray
from text_repair import TooGarbled, fix_text

# Instances are processes, as many as the host is given for this; threads of their own would only compete.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

Rows = NDArray[np.int32]
Counts = list[int]


class InvalidText(ValueError):
    """A text that cannot be used; the message names its index in the request and the reason, for the sender."""


class MalformedEntity(ValueError):
    """An HTML entity that cannot be resolved."""


class TextTokenizer:
    """The tokenizer of one model: rows of `context_length` ids.

    Raises FileNotFoundError where the exporter has not written tokenizer.json.
    """

    def __init__(
        self,
        path: Path,
        *,
        context_length: int = 77,
        clean: str = "lower",
        max_text_bytes: int = 40_000,
        vocabulary: str = "clip",
        stripped_id: int | None = None,
    ) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: run `tritonclip-server export VARIANT`, which writes it")
        self.context_length = context_length
        self.max_text_bytes = max_text_bytes
        self._clean = CLEANING[clean]
        document = path.read_text(encoding="utf-8")
        self._vocabulary: ClipVocabulary | HubVocabulary = (
            ClipVocabulary(document) if vocabulary == "clip" else HubVocabulary(document, stripped_id)
        )

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
        clean, vocabulary = given.get("clean", "lower"), given.get("vocabulary", "clip")
        if clean not in CLEANING:
            raise ValueError(f"parameter clean: {clean!r} is not one of {', '.join(CLEANING)}")
        if vocabulary not in VOCABULARIES:
            raise ValueError(f"parameter vocabulary: {vocabulary!r} is not one of {', '.join(VOCABULARIES)}")
        return cls(
            folder / "tokenizer.json",
            context_length=int(dims[0]),
            clean=clean,
            max_text_bytes=_whole_number(given, "max_text_bytes", 1) or 40_000,
            vocabulary=vocabulary,
            stripped_id=_whole_number(given, "stripped_id", 0),
        )

    def fill(self, rows: Rows, texts: Iterable[bytes]) -> Counts:
        """Write the ids of n texts into `rows`, int32 [n, context_length]; give how many tokens each text has.

        A text of more than `context_length` is cut, and ends as every other one. Raises InvalidText for the first bad
        text.
        """
        cleaned = [self._cleaned(index, data) for index, data in enumerate(texts)]
        encoded = self._vocabulary.encode(cleaned)
        for row, ids in zip(rows, encoded, strict=True):
            self._vocabulary.layout.write(row, ids)
        return [len(ids) for ids in encoded]

    def _cleaned(self, index: int, data: bytes) -> str:
        if len(data) > self.max_text_bytes:
            raise InvalidText(f"text {index}: {len(data)} bytes, more than the limit of {self.max_text_bytes}")
        try:
            return self._clean(data.decode())
        except UnicodeDecodeError as error:
            raise InvalidText(f"text {index}: not UTF-8 at byte {error.start} ({error.reason})") from error
        except (TooGarbled, MalformedEntity) as error:
            raise InvalidText(f"text {index}: {error}") from error


def _whole_number(given: Mapping[str, str], name: str, least: int) -> int | None:
    """A parameter that is a number; None where it is not given."""
    value = given.get(name)
    if value is not None and (not value.isdecimal() or int(value) < least):
        raise ValueError(f"parameter {name}: {value!r} is not a whole number of at least {least}")
    return None if value is None else int(value)


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
PARAMETERS = {"clean", "max_text_bytes", "stripped_id", "vocabulary"}
VOCABULARIES = ("clip", "hub")
CLEANING: dict[str, Callable[[str], str]] = {"lower": _lower, "whitespace": _whitespace, "canonicalize": _canonicalize}
