"""text_tokenize against open_clip's HFTokenizer: the same ids, on every string, for each kind of tokenizer."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from open_clip.tokenizer import HFTokenizer

from tests import small_tokenizers
from tests.modules import MODELS, load_module
from tests.parity.test_tokens import COUNTS, EDGES, Corpus, captions, emoji, scripts, take, texts_of
from tritonclip_server.export.tokenizer import tokenizer_settings, write_tokenizer

tokenize_text = load_module(MODELS / "text_tokenize" / "1" / "tokenize_text.py")

OWN_SPECIAL_TOKENS = (
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "<mask>",
    "<bos>",
    "<eos>",
    "[CLS]",
    "[SEP]",
    "[PAD]",
    "eng_Latn",
)


@pytest.fixture(scope="module", params=small_tokenizers.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of this kind that has seen captions, scripts and emoji, and meets much that it has not."""
    folder = tmp_path_factory.mktemp(kind)
    small_tokenizers.train(
        kind, [text for corpus in (captions, scripts, emoji) for text in take(corpus, 500, 3)], folder
    )
    return folder


@pytest.fixture(scope="module")
def reference(kind: str, folder: Path) -> HFTokenizer:
    return small_tokenizers.load(kind, folder)


def serve(reference: HFTokenizer, folder: Path) -> Any:
    """The tokenizer as text_tokenize loads it, by the configuration that the exporter writes."""
    write_tokenizer(reference, folder / "tokenizer.json")
    settings = tokenizer_settings(reference)
    parameters = {name: {"string_value": value} for name, value in settings.parameters().items()}
    config = {"output": [{"name": "tokens", "dims": [settings.context_length]}], "parameters": parameters}
    return tokenize_text.TextTokenizer.from_config(config, folder)


def compare(tokenizer: Any, reference: HFTokenizer, texts: list[str]) -> None:
    """Fail with the first text whose ids differ."""
    tokens = np.full((len(texts), tokenizer.context_length), -1, np.int32)
    counts = tokenizer.fill(tokens, [text.encode() for text in texts])
    expected = reference(texts).numpy()
    for row in np.flatnonzero((tokens != expected).any(axis=1)):
        pytest.fail(f"{texts[row][:200]!r}: {tokens[row].tolist()}, open_clip {expected[row].tolist()}")
    assert len(counts) == len(texts)


@pytest.fixture(scope="module")
def served(reference: HFTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return serve(reference, tmp_path_factory.mktemp("served"))


@pytest.mark.parametrize("corpus", COUNTS, ids=lambda corpus: corpus.__name__)
def test_ids_equal_those_of_open_clip(served: Any, reference: HFTokenizer, corpus: Corpus) -> None:
    compare(served, reference, texts_of(corpus))


def test_ids_of_edge_cases_and_of_special_tokens_equal_those_of_open_clip(served: Any, reference: HFTokenizer) -> None:
    rng = random.Random(5)
    spelled = ["".join(rng.choices((*OWN_SPECIAL_TOKENS, "cat", " ", "!"), k=6)) for _ in range(500)]
    compare(served, reference, [*EDGES, *(text for text in spelled if not text.startswith("eng_Latn "))])


@pytest.mark.parametrize("legacy", [False, True], ids=["first", "last"])
def test_a_language_in_front_of_a_text_is_its_language(tmp_path: Path, legacy: bool) -> None:
    """As transformers has it by src_lang, which open_clip's set_language does not reach; others keep the default."""
    small_tokenizers.train("nllb", take(captions, 300, 3), tmp_path)
    reference = small_tokenizers.load("nllb", tmp_path, legacy_behaviour=legacy)
    tokenizer = serve(reference, tmp_path)
    captioned = [*take(captions, 50, 1), "", "fra_Latn", "cat " * 100]
    texts = {"eng_Latn": captioned, "fra_Latn": captioned, "zho_Hans": captioned}
    rows = np.empty((4 * len(captioned), tokenizer.context_length), np.int32)
    named = [f"{code} {text}" for code, several in texts.items() for text in several]
    near = ["fra_latn a cat", "xyz_Abcd a cat", "fra_Latna cat", "a fra_Latn cat"]
    tokenizer.fill(rows[: len(named) + len(near)], [text.encode() for text in [*named, *near]])
    expected = [reference(near)]
    for code, several in reversed(texts.items()):
        reference.tokenizer.src_lang = code
        expected.insert(0, reference(several))
    assert (rows[: len(named) + len(near)] == np.concatenate(expected)).all()
    assert len({row.tobytes() for row in rows[: len(named)]}) == len(named)


@pytest.mark.parametrize("clean", ["whitespace", "canonicalize", "lower"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_other_cleaning_sides_and_widths(kind: str, folder: Path, tmp_path: Path, clean: str, side: str) -> None:
    reference = small_tokenizers.load(
        kind, folder, clean=clean, context_length=7, truncation_side=side, padding_side=side
    )
    compare(serve(reference, tmp_path), reference, [*take(captions, 100, 1), *EDGES])


def test_tokens_are_counted_before_a_text_is_cut(served: Any, reference: HFTokenizer) -> None:
    texts = ["", "a cat", "a cat " * 100]
    rows = np.empty((len(texts), served.context_length), np.int32)
    ids = [reference.tokenizer(reference.clean_fn(text)).input_ids for text in texts]
    assert served.fill(rows, [text.encode() for text in texts]) == [len(each) for each in ids]
