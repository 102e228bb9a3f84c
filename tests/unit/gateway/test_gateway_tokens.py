"""Texts as token ids of cl100k_base, and what is none of those."""

import builtins
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiktoken import Encoding
from tiktoken.load import load_tiktoken_bpe

from tests.images import RED_URL
from tests.unit.gateway.conftest import Gateway
from tritonclip_server.gateway.content import token_ids
from tritonclip_server.gateway.content.token_ids import VOCABULARY, token_count
from tritonclip_server.gateway.routes.common import MADE_IN_THREAD

EMBED = "/v1/embeddings"
WORDS = [
    "a red triangle", "", " ", "line\nbreaks\r\n\tand  blanks ", "日本語のテキスト", "한국어",
    "emoji 😀👩‍👩‍👧 flags 🇵🇱",
    "Łódź ünïcödé", "<|endoftext|> is only words here", "x" * 9999, "\u0000 controls \u007f", "العربية",
]  # fmt: skip


@pytest.fixture(scope="module")
def encoding(tmp_path_factory: pytest.TempPathFactory) -> Encoding:
    """tiktoken as its users have it: the table read by its own loader, which checks the digest, and its own pattern."""
    import gzip

    from tiktoken_ext import openai_public  # type: ignore[import-untyped]

    table = tmp_path_factory.mktemp("cl100k") / "table"
    table.write_bytes(gzip.decompress(token_ids.TABLE.read_bytes()))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TIKTOKEN_CACHE_DIR", "")
        patched.setattr(
            openai_public,
            "load_tiktoken_bpe",
            lambda _url, expected_hash: load_tiktoken_bpe(str(table), expected_hash),
        )
        return Encoding(**openai_public.cl100k_base())


def vectors(answer: Any) -> Any:
    return np.array([entry["embedding"] for entry in answer["data"]])


def test_texts_and_their_tokens_have_the_same_vectors(gateway: Gateway, encoding: Encoding) -> None:
    ids = [encoding.encode(text, disallowed_special=()) for text in WORDS if text]
    texts = [text for text in WORDS if text]
    by_tokens, by_texts = gateway.post(EMBED, input=ids), gateway.post(EMBED, input=texts)
    assert np.sum(vectors(by_tokens) * vectors(by_texts), axis=1).min() >= 0.9999998
    assert by_tokens == by_texts


def test_one_list_of_ids_is_one_text(gateway: Gateway, encoding: Encoding) -> None:
    for text in ("a", "a red triangle", "word " * (2 * MADE_IN_THREAD)):
        ids = encoding.encode(text)
        assert gateway.post(EMBED, input=ids) == gateway.post(EMBED, input=text)
        assert gateway.post(EMBED, input=[ids]) == gateway.post(EMBED, input=[text])


def test_what_was_a_bare_string_is_read_as_one(gateway: Gateway, encoding: Encoding) -> None:
    assert gateway.post(EMBED, input=encoding.encode(RED_URL)) == gateway.post(EMBED, input=RED_URL)
    ids = encoding.encode("https://example.com/a.png")
    assert gateway.refused(EMBED, 400, input=ids)["code"] == "not_a_text"
    assert gateway.post(EMBED, input=ids, modality="text")["usage"]["num_images"] == 0
    long = gateway.post(EMBED, input=[encoding.encode("a"), encoding.encode("word " * 200)])
    assert long["truncated"] == [1]
    error = gateway.refused(EMBED, 400, input=[encoding.encode("word " * 200)], truncate="NONE")
    assert (error["code"], error["param"]) == ("text_too_long", "input[0]")
    error = gateway.refused(EMBED, 400, input=[encoding.encode("x" * 20_000)])
    assert (error["code"], error["param"]) == ("text_too_long", "input[0]")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], "no tokens"),
        ([1, VOCABULARY], f"token 1 is {VOCABULARY}"),
        ([100_257], "100257"),  # <|endoftext|>
        ([10**30], "token 0"),
        ([-1], "token 0 is -1"),
        ([1, 2.0], "token 1 is 2.0"),
        ([1.5], "token 0 is 1.5"),
        ([1, True], "token 1 is true"),
        ([1, None], "token 1 is null"),
        ([1, "a"], 'token 1 is "a"'),
        ([1, [2]], "token 1 is a list"),
        ([172, 253], "within a character"),
    ],
)
def test_lists_that_are_no_text(gateway: Gateway, ids: list[Any], said: str) -> None:
    error = gateway.refused(EMBED, 400, input=[[1], ids])
    assert (error["code"], error["param"]) == ("invalid_tokens", "input[1]")
    assert error["message"].startswith("input[1]: ")
    assert said in error["message"]
    answer = gateway.post(EMBED, input=[[1], ids, [2]], partial=True)
    assert [entry["index"] for entry in answer["data"]] == [0, 2]
    assert answer["errors"][0]["param"] == "input[1]"


@pytest.mark.parametrize("other", ["a", 3, None, {"text": "a"}, True])
def test_lists_and_other_things_together(gateway: Gateway, other: Any) -> None:
    error = gateway.refused(EMBED, 400, input=[[1], other])
    assert (error["code"], error["param"]) == ("invalid_value", "input[1]")


def test_ids_are_read_where_texts_come_in_bulk_and_nowhere_else(gateway: Gateway) -> None:
    for path, document, param in (
        ("/v1/rerank", {"query": "a", "documents": [[1, 2]]}, "documents[0]"),
        ("/v1/rerank", {"query": [1, 2], "documents": ["a"]}, "query"),
        ("/v1/similarity", {"image": RED_URL, "texts": [[1]]}, "texts[0]"),
        ("/v1/classify", {"image": RED_URL, "labels": [1, 2]}, "labels[0]"),
    ):
        error = gateway.refused(path, 400, **document)
        assert (error["code"], error["param"]) == ("invalid_value", param)


@pytest.fixture
def fresh() -> Iterator[None]:
    token_ids.load_encoding.cache_clear()
    yield
    token_ids.load_encoding.cache_clear()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("missing", ["tiktoken", "table", "digest"])
def test_without_the_extra_both_remedies_are_named(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    if missing == "tiktoken":
        monkeypatch.setitem(sys.modules, "tiktoken", None)
    elif missing == "table":
        monkeypatch.setattr(token_ids, "TABLE", tmp_path / "there is none")
    else:
        monkeypatch.setattr(token_ids, "DIGEST", "0" * 64)
    for ids, param in (([1, 2], "input"), ([[1], [2]], "input[0]")):
        error = gateway.refused(EMBED, 400, input=ids)
        assert (error["code"], error["param"]) == ("token_arrays_unsupported", param)
        assert "check_embedding_ctx_length=False" in error["message"]
        assert "requirements/openai-tokens.txt" in error["message"]
    gateway.post(EMBED, input=["texts are as ever"])


@pytest.mark.usefixtures("fresh")
def test_nothing_is_fetched(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiktoken.load.read_file", lambda path: pytest.fail(f"{path} was read"))
    importing = builtins.__import__

    def without_requests(name: str, *rest: Any) -> Any:
        assert name != "requests"
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_requests)
    assert gateway.post(EMBED, input=[9906]) == gateway.post(EMBED, input="Hello")


@pytest.mark.parametrize(
    ("value", "count"),
    [([1, 2], 2), ([[1], [2, 3]], 3), (["a"], 0), ("a", 0), (None, 0), ({}, 0), ([[]], 0), ([], 0)],
)
def test_tokens_are_counted(value: Any, count: int) -> None:
    assert token_count(value) == count
