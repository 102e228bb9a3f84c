"""text_tokenize against open_clip's SimpleTokenizer: the same ids, on every string."""

# ruff: noqa: RUF001 (look-alike characters are what some of these strings are for)

import html
import random
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from tests.modules import MODELS, load_module
from tritonclip_server.export.tokenizer import tokenizer_settings, write_tokenizer

tokenize_text = load_module(MODELS / "text_tokenize" / "1" / "tokenize_text.py")

REFERENCE = SimpleTokenizer()
Corpus = Callable[[random.Random], Iterator[str]]

TEMPLATES = (
    "a photo of a {0} and a {1}",
    "The {0} {1}, {2}; it's {3} o'clock!",
    "{0} {1} {2} {3} (stock photo) - 4K",
    "I've seen {0}'s {1}... they'll {2}?",
    "{0}-{1}_{2}/{3}@{0}.com #{1}",
    "{0} 19{1}84 3.14{2} ½ {3}²",
)
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "❤️", "🇫🇷", "1️⃣", "☺", "🫠", "🪿"]
SCRIPTS = [
    "一只猫坐在桌子上",
    "猫がテーブルの上に座っています",
    "고양이가 탁자 위에 앉아 있다",
    "ｶﾅ ｆｕｌｌ ｗｉｄｔｈ １２３",
    "قطة تجلس على الطاولة",
    "חתול יושב על השולחן",
    "گربه روی میز نشسته",
    "बिल्ली मेज पर बैठी है",
    "แมวนั่งอยู่บนโต๊ะ",
    "Кошка сидит на столе",
    "Η γάτα κάθεται ΣΤΟ ΤΡΑΠΈΖΙΣ",
    "İstanbul'da KIZIL ıspanak ß ẞ ŉ ǰ",
    "Điện thoại di động naïve café Ångström",
    "ﬁne ﬂour ﬀ ĳ ǆ",
    "e\u0301 a\u0345 o\u0308\u0304",
]
ENTITIES = [
    "&amp;",
    "&amp;amp;",
    "&lt;b&gt;",
    "&#39;s",
    "&#x1F600;",
    "&quot;x&quot;",
    "&nbsp;",
    "&eacute",
    "&bogus;",
    "&#0;",
]
ODD_PIECES = [
    *("<start_of_text>", "<end_of_text>", "<START_OF_TEXT>", "<ſtart_of_text>", "<start_of_text", "!!<start_of_text>"),
    *("<end_of_text>!", "x<end_of_text>y", "&lt;start_of_text&gt;"),
    *("''s", "'ſ", "'S", "'LL", "’s", "'re've", "''", "'", "&#0;"),
    *("\u017f", "\u212a", "\u0130", "\ufb01", "\u1e9e", "\u00ad", "\u200d", "\ufeff", "\u2028", "\u0085", "\u001c"),
]


@cache
def words() -> list[str]:
    """Words of open_clip's own vocabulary: those that end in the end-of-word mark."""
    found = [token[:-4] for token in REFERENCE.encoder if token.endswith("</w>")]
    return [word for word in found if word.isalpha() and word.isascii() and len(word) > 2]


def captions(rng: random.Random) -> Iterator[str]:
    while True:
        text = rng.choice(TEMPLATES).format(*rng.choices(words(), k=4))
        yield rng.choice((text, text, text.title(), text.upper(), text + " " + text, "  ".join(text.split())))


def emoji(rng: random.Random) -> Iterator[str]:
    while True:
        pieces = rng.choices(EMOJI, k=rng.randint(1, 6)) + rng.choices(words(), k=2)
        rng.shuffle(pieces)
        yield rng.choice(("", " ")).join(pieces)


def scripts(rng: random.Random) -> Iterator[str]:
    while True:
        text = rng.choice(SCRIPTS)
        start = rng.randrange(len(text))
        yield text[start : start + rng.randint(1, 40)] + rng.choice(("", " ", "12", "!")) + rng.choice(SCRIPTS)


def entities(rng: random.Random) -> Iterator[str]:
    while True:
        text = "".join(rng.choice((rng.choice(ENTITIES), rng.choice(words()), " ")) for _ in range(6))
        yield rng.choice((text, html.escape(text), f"<p>{text}</p>"))


def mojibake(rng: random.Random) -> Iterator[str]:
    while True:
        text = rng.choice([*SCRIPTS, "naïve café “quoted” – it’s", "schön größer", *EMOJI]) + rng.choice(words())
        for _ in range(rng.randint(1, 2)):
            text = text.encode().decode(rng.choice(("latin-1", "cp1252", "cp1251", "cp437", "mac-roman")), "replace")
        yield text


def control_characters(rng: random.Random) -> Iterator[str]:
    controls = [chr(code) for code in (*range(32), 127, *range(128, 160), 0x200B, 0x200E, 0x2060, 0xFFFD, 0xFFFE)]
    while True:
        yield "".join(rng.choice((rng.choice(controls), rng.choice(words()), " ")) for _ in range(8))


def special_tokens(rng: random.Random) -> Iterator[str]:
    while True:
        yield "".join(rng.choice((rng.choice(ODD_PIECES), rng.choice(words()), " ", "!")) for _ in range(7))


def any_unicode(rng: random.Random) -> Iterator[str]:
    ranges = ((0, 0x250), (0, 0x3000), (0, 0xD800), (0xE000, 0x20000), (0xE000, 0x110000))
    while True:
        low, high = rng.choice(ranges)
        yield "".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(0, 24)))


def long_texts(rng: random.Random) -> Iterator[str]:
    while True:
        piece = rng.choice([rng.choice(words()) + " ", "ab", "é", "9", "!?", "a. ", "漢", "😀", "<end_of_text> "])
        yield (piece * 10_000)[:10_000]


EDGES = [
    *("", " ", "\n", "a", "\0", "_", "&", "&amp;", "'", "\u0345", "\U0010ffff", *ODD_PIECES, *SCRIPTS, *EMOJI),
    # One token more or less than what fits between start and end.
    *(" ".join(["cat"] * count) for count in range(70, 80)),
    *(" ".join(["cat"] * count) + " <end_of_text>" for count in range(70, 80)),
]

# The long ones are few because open_clip's own byte pair encoding is quadratic.
COUNTS: dict[Corpus, int] = {
    captions: 9000,
    emoji: 1500,
    scripts: 2000,
    entities: 2000,
    mojibake: 2000,
    control_characters: 1500,
    special_tokens: 2500,
    any_unicode: 2500,
    long_texts: 12,
}


def take(corpus: Corpus, count: int, seed: int | str) -> list[str]:
    """So many texts of a corpus: an error where it has fewer, since less would be tested than it says."""
    texts = list(islice(corpus(random.Random(seed)), count))
    assert len(texts) == count
    return texts


@cache
def texts_of(corpus: Corpus) -> list[str]:
    return take(corpus, COUNTS[corpus], 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(REFERENCE, folder / "tokenizer.json")
    return folder


@cache
def load(folder: Path, clean: str, context_length: int) -> Any:
    path = folder / "tokenizer.json"
    return tokenize_text.TextTokenizer(path, context_length=context_length, clean=clean)


def compare(folder: Path, reference: Any, texts: list[str]) -> None:
    """Fail with the first text whose ids differ, and where."""
    chosen = tokenizer_settings(reference)
    tokenizer = load(folder, chosen.clean, chosen.context_length)
    tokens = np.empty((len(texts), chosen.context_length), np.int32)
    tokenizer.fill(tokens, [text.encode() for text in texts])
    expected = reference(texts).numpy()
    different = np.flatnonzero((tokens != expected).any(axis=1))
    if len(different):
        row = different[0]
        at = int(np.flatnonzero(tokens[row] != expected[row])[0])
        pytest.fail(
            f"{len(different)} of {len(texts)} texts differ; the first is {texts[row][:200]!r}, at token {at}: "
            f"{tokens[row, at : at + 8].tolist()}, open_clip {expected[row, at : at + 8].tolist()}"
        )


@pytest.mark.parametrize("corpus", COUNTS, ids=lambda corpus: corpus.__name__)
def test_tokens_equal_those_of_open_clip(folder: Path, corpus: Corpus) -> None:
    compare(folder, REFERENCE, texts_of(corpus))


def test_tokens_of_edge_cases_equal_those_of_open_clip(folder: Path) -> None:
    compare(folder, REFERENCE, EDGES)


def test_enough_strings_are_compared_and_they_differ() -> None:
    assert len({text for corpus in COUNTS for text in texts_of(corpus)}) >= 20_000


@pytest.mark.parametrize("clean", ["whitespace", "canonicalize"])
def test_other_cleaning(folder: Path, clean: str) -> None:
    corpora = (captions, scripts, entities, mojibake, special_tokens, any_unicode)
    texts = [text for corpus in corpora for text in take(corpus, 300, clean)]
    compare(folder, SimpleTokenizer(clean=clean), texts + EDGES)


def test_context_length(folder: Path) -> None:
    texts = take(captions, 200, 1)
    compare(folder, SimpleTokenizer(context_length=16), texts)
    compare(folder, SimpleTokenizer(context_length=3), texts)


def test_additional_special_tokens(tmp_path: Path) -> None:
    reference = SimpleTokenizer(additional_special_tokens=["<mask>", "<region>"])
    write_tokenizer(reference, tmp_path / "tokenizer.json")
    compare(tmp_path, reference, ["a <mask> in <region>", "!!<mask>", "<MASK> mask <mask><mask> <end_of_text>x"])


def test_printable_ascii_needs_no_repair(folder: Path) -> None:
    """The short cut around ftfy: every pair of printable characters, and runs of punctuation."""
    printable = [chr(code) for code in range(32, 127)]
    pairs = ["".join((first, second)) for first in printable for second in printable]
    rng = random.Random(2)
    runs = ["".join(rng.choices(printable, k=30)) for _ in range(2000)]
    compare(folder, REFERENCE, pairs + runs)


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=8))
def test_any_text(folder: Path, texts: list[str]) -> None:
    compare(folder, REFERENCE, texts)


def test_every_code_point(folder: Path) -> None:
    """Each code point between two letters: the split on either side of it, and its class, are open_clip's."""
    codes = [*range(0xD800), *range(0xE000, 0x110000)]
    # All of the first three planes, where almost all letters are, and a sample of the rest, eight to a text.
    chosen = codes[:0x32000] + codes[0x32000::97]
    texts = [" ".join(f"a{chr(code)}b" for code in chosen[i : i + 8]) for i in range(0, len(chosen), 8)]
    compare(folder, REFERENCE, texts)
