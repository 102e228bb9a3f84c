"""Texts that are longer than what the model reads: told, refused or let pass, and counted only where that is needed."""

import asyncio
import html.entities
import sys
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from tests.modules import MODELS, load_module
from tests.unit.client.conftest import Command, Wire
from tritonclip import AsyncClient, Client, ConfigError, InputError, TruncationWarning
from tritonclip._operations.truncation import surely_fits
from tritonclip.testing import FakeServer, features_of
from tritonclip_server.export.tokenizer import write_tokenizer

LONG, LONGER = "word " * 88, "word " * 100  # 90 and 102 tokens, start and end among them
SHORT = "a photo of a cat"
TEXTS = [SHORT, LONG, SHORT, LONGER]


def counted(fake: FakeServer) -> list[str]:
    return [item.decode() for request in fake.requests("text_tokenize") for item in request.inputs[0].items()]


def test_a_warning_names_what_was_cut_where_the_caller_called(wire: Wire) -> None:
    with pytest.warns(TruncationWarning) as caught:
        result = wire.run(lambda client: client.embed_texts(TEXTS))
    (warning,) = caught
    assert str(warning.message) == "cut to the 77 tokens that the model reads: text 1 (90 tokens), text 3 (102 tokens)"
    assert Path(warning.filename).name in (Path(__file__).name, "conftest.py")
    assert result.truncated == (1, 3)
    assert result.errors == {}
    np.testing.assert_array_equal(result.features[1], features_of(LONG.encode(), 16))


def test_the_warning_points_at_an_asynchronous_caller(fake: FakeServer) -> None:
    async def main() -> Any:
        async with AsyncClient(transport=fake.async_transport()) as client:
            return await client.embed_texts(LONG)

    with pytest.warns(TruncationWarning) as caught:
        assert asyncio.run(main()).truncated == (0,)
    assert caught[0].filename == __file__


def test_many_are_not_all_named(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client, pytest.warns(TruncationWarning) as caught:
        assert client.embed_texts([LONG] * 40).truncated == tuple(range(40))
    assert str(caught[0].message).endswith("text 4 (90 tokens) and 35 more")


def test_an_error_names_tokens_and_limit(wire: Wire) -> None:
    with pytest.raises(InputError) as caught:
        wire.run(lambda client: client.embed_texts(TEXTS, on_truncation="raise"))
    assert str(caught.value) == "text 1: 90 tokens, more than the 77 that the model reads"
    result = wire.run(lambda client: client.embed_texts(TEXTS, on_truncation="raise", on_error="return"))
    assert {index: str(error) for index, error in result.errors.items()} == {
        1: "text 1: 90 tokens, more than the 77 that the model reads",
        3: "text 3: 102 tokens, more than the 77 that the model reads",
    }
    assert result.truncated == ()
    assert np.isnan(result.features[[1, 3]]).all()
    np.testing.assert_array_equal(result.features[0], features_of(SHORT.encode(), 16))
    sent = [item for request in wire.fake.requests("embed_text") for item in request.inputs[0].items()]
    assert set(sent) == {SHORT.encode()}  # what is refused is not even embedded


@pytest.mark.filterwarnings("error")
def test_allowed_means_not_looked_at(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        result = client.embed_texts(TEXTS, on_truncation="allow")
        assert (result.truncated, result.errors) == ((), {})
        client.compare(b"image", TEXTS, on_truncation="allow")
        client.classify(b"image", [SHORT, LONG], on_truncation="allow")
    assert counted(fake) == []


def test_only_what_may_be_too_long_is_counted(fake: FakeServer) -> None:
    fits = ["x" * 75, "é" * 12, "", "a & b"]
    doubtful = ["x" * 76, "é" * 13, "&" * 26]
    with Client(transport=fake.transport()) as client:
        assert client.embed_texts([*fits, *doubtful]).truncated == ()
        assert client.compare(b"a", [*doubtful, *fits]).truncated == ()
        assert client.classify(b"a", [*fits, *doubtful], template="{}").truncated == ()
    assert counted(fake) == doubtful * 3


def test_a_server_that_does_not_say_its_limit_has_none(fake: FakeServer) -> None:
    fake.manifest["context_length"] = None
    with Client(transport=fake.transport()) as client:
        assert client.embed_texts(TEXTS, on_truncation="raise").truncated == ()


@pytest.mark.parametrize("max_batch_size", [64, 2])  # in one request, and in several
def test_texts_to_compare_with(max_batch_size: int) -> None:
    fake = FakeServer(max_batch_size=max_batch_size)
    with Client(transport=fake.transport()) as client:
        with pytest.warns(TruncationWarning, match=r"text 1 \(90 tokens\), text 3 \(102 tokens\)$"):
            assert client.compare(b"image", TEXTS).truncated == (1, 3)
        with pytest.raises(InputError, match="text 1: 90 tokens, more than the 77"):
            client.compare(b"image", TEXTS, on_truncation="raise", on_error="return")


def test_labels(fake: FakeServer) -> None:
    labels = ["cat", LONG, "dog"]
    with Client(transport=fake.transport()) as client:
        for _ in range(2):  # the second time with features that were kept
            with pytest.warns(TruncationWarning, match=r"label 1 \(92 tokens\)$"):
                assert client.classify(b"image", labels, template="just a {}").truncated == (1,)
            for template in ("just a {}", "only a {}"):
                with pytest.raises(InputError, match="label 1: 92 tokens, more than the 77"):
                    client.classify(b"image", labels, template=template, on_truncation="raise")
        assert len(fake.requests("embed_text")) == 2  # once a template


def test_features_kept_uncounted_are_not_taken_for_short_ones(fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        client.classify(b"image", ["cat", LONG], on_truncation="allow")
        with pytest.raises(InputError, match="label 1"):
            client.classify(b"image", ["cat", LONG], on_truncation="raise")
        assert client.classify(b"image", ["cat", LONG], on_truncation="allow").truncated == ()
    assert len(fake.requests("embed_text")) == 2


@pytest.mark.parametrize("policy", ["ignore", "", None, True])
def test_policies_that_make_no_sense(policy: Any, fake: FakeServer) -> None:
    with Client(transport=fake.transport()) as client:
        for use in (
            lambda: client.embed_texts("a", on_truncation=policy),
            lambda: client.compare(b"a", "b", on_truncation=policy),
            lambda: client.classify(b"a", ["b", "c"], on_truncation=policy),
        ):
            with pytest.raises(ConfigError, match="on_truncation"):
                use()


def test_the_command_warns_in_one_line(command: Command, photos: Path) -> None:
    assert command("embed", "--text", SHORT, "--text", LONG, "--format", "json") == 0
    assert command.err == "tritonclip: cut to the 77 tokens that the model reads: text 1 (90 tokens)\n"
    assert '"truncated": true' in command.text
    assert command("embed", "--text", LONG, "--on-truncation", "allow") == 0
    assert command.err == ""
    assert command("embed", "--text", SHORT, "--text", LONG, "--on-truncation", "raise", "--format", "csv") == 1
    assert command.err == f"tritonclip: {LONG}: 90 tokens, more than the 77 that the model reads\n"
    assert len(command.text.splitlines()) == 2
    assert command("rank", "cat.jpg", SHORT, LONG) == 0
    assert "text 1 (90 tokens)" in command.err
    assert command("rank", "cat.jpg", SHORT, LONG, "--on-truncation", "raise") == 1
    assert "text 1: 90 tokens" in command.err
    assert command("classify", "cat.jpg", "--labels", f"cat,{LONG}") == 0
    assert "label 1 (" in command.err
    assert command("classify", "cat.jpg", "--labels", f"cat,{LONG}", "--on-truncation", "raise") == 1


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The server's tokeniser; of a context that nothing here exceeds, so that it counts without cutting."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(SimpleTokenizer(), path)
    module = load_module(MODELS / "text_tokenize" / "1" / "tokenize_text.py")
    return module.TextTokenizer(path, context_length=400)


def count(tokenizer: Any, texts: list[str]) -> list[int]:
    counts: list[int] = tokenizer.fill(np.zeros((len(texts), 400), np.int32), [text.encode() for text in texts])
    return counts


def check_bound(tokenizer: Any, texts: list[str]) -> None:
    """No text has more tokens than the shortest context into which it is said to fit surely."""
    for text, tokens in zip(texts, count(tokenizer, texts), strict=True):
        fitting = next(context for context in range(2, 1000) if surely_fits(text.encode(), context))
        assert tokens <= fitting, (text, tokens, fitting)


# Characters that cleaning makes more of, and what it unescapes or repairs.
NASTY = [
    "\U0001d15e", "\U0001d1c0", "\u0958", "\ufb2c", "\u0130", "\u0149", "\x80", "\x85", "\ufb03", "\u023a", "&amp;",
    "&nGt;", "&#x1d15e;", "&#128;", "&lt", "Ã©", "â€™", "\u1e9e", "\u0344", "\u2126", "<", ">", "&", ";", "#", "a", " ",
    "\n", "👩‍👩‍👧", "猫", "\x1b[36m", "'s", "<end_of_text>",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(NASTY) | st.characters(codec="utf-8"), max_size=12).map("".join))
def test_a_text_that_surely_fits_does_fit(tokenizer: Any, text: str) -> None:
    check_bound(tokenizer, [text, f"a photo of a {text}", text * 2])


def test_every_entity_and_every_character_that_grows_fits_where_it_is_said_to(tokenizer: Any) -> None:
    check_bound(tokenizer, [f"&{name}" for name in html.entities.html5])
    check_bound(tokenizer, [f"&amp;{name}" for name in html.entities.html5])
    grown = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if not 0xD800 <= ord(character) < 0xE000
        and len(unicodedata.normalize("NFC", character).lower().encode()) > len(character.encode())
    ]
    assert len(grown) > 50
    check_bound(tokenizer, grown)
    check_bound(tokenizer, [f"&#{ord(character)};" for character in grown])


def test_the_default_is_to_warn() -> None:
    with Client(transport=FakeServer().transport()) as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.embed_texts(LONG)
    assert [warning.category for warning in caught] == [TruncationWarning]
