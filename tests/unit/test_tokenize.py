"""text_tokenize: limits, errors, configuration, the adapter with a stand-in for Triton. Parity is tested elsewhere."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, SimpleTokenizer
from tokenizers import Tokenizer

from tests.modules import MODELS, Tensor, json_text, load_model, load_module, request
from tritonclip_server.export.errors import UnsupportedModel
from tritonclip_server.export.tokenizer import TokenizerSettings, tokenizer_settings, write_tokenizer

FOLDER = MODELS / "text_tokenize" / "1"
REFERENCE = SimpleTokenizer()
CAT = [49406, 320, 1125, 539, 320, 2368, 49407]
tokenize_text = load_module(FOLDER / "tokenize_text.py")
token_rows = load_module(FOLDER / "token_rows.py")


def config(width: int = 77, **parameters: str) -> dict[str, Any]:
    return {"output": [{"name": "tokens", "dims": [width]}], "parameters": parameters}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version folder as it is after an export."""
    folder = tmp_path_factory.mktemp("text_tokenize") / "1"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("tokenizer.json", "__pycache__"))
    write_tokenizer(REFERENCE, folder / "tokenizer.json")
    return folder


def encode(folder: Path, *texts: bytes, **options: Any) -> Any:
    tokenizer = tokenize_text.TextTokenizer(folder / "tokenizer.json", **options)
    rows = np.full((len(texts), tokenizer.context_length), -1, np.int32)
    tokenizer.fill(rows, texts)
    return rows


def test_a_row_is_framed_and_padded(folder: Path) -> None:
    rows = encode(folder, b"A photo  of a cat")
    assert rows.tolist() == [CAT + [0] * 70]


def test_long_texts_are_cut_and_still_end(folder: Path) -> None:
    rows = encode(folder, b"cat " * 100, context_length=10)
    assert rows.tolist() == [[49406] + [2368] * 8 + [49407]]


def test_tokens_are_counted_before_a_text_is_cut(folder: Path) -> None:
    tokenizer = tokenize_text.TextTokenizer(folder / "tokenizer.json", context_length=10)
    texts = [b"", b"cat " * 7, b"cat " * 8, b"cat " * 9, b"cat " * 5000, b"<end_of_text> " * 30]
    rows = np.full((len(texts), 10), -1, np.int32)
    assert tokenizer.fill(rows, texts) == [2, 9, 10, 11, 5002, 32]
    assert (rows[3:, -1] == 49407).all()


def test_no_texts(folder: Path) -> None:
    assert encode(folder).shape == (0, 77)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"caf\xe9", "text 1: not UTF-8 at byte 3 (unexpected end of data)"),
        (b"\xff\xfea\0", "text 1: not UTF-8 at byte 0 (invalid start byte)"),
        (b"a\xed\xa0\x80", "text 1: not UTF-8 at byte 1 (invalid continuation byte)"),
        (b"a" * 101, "text 1: 101 bytes, more than the limit of 100"),
    ],
)
def test_bad_texts_are_named(folder: Path, data: bytes, reason: str) -> None:
    with pytest.raises(tokenize_text.InvalidText) as caught:
        encode(folder, b"fine", data, b"fine", max_text_bytes=100)
    assert str(caught.value) == reason


def test_the_limit_itself_is_allowed(folder: Path) -> None:
    assert encode(folder, b"a" * 100, max_text_bytes=100)[0, 0] == 49406


def test_a_missing_file_says_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="tritonclip-server export VARIANT"):
        tokenize_text.TextTokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (config(clean="tidy"), "parameter clean: 'tidy' is not one of lower, whitespace, canonicalize"),
        (config(vocabulary="t5"), "parameter vocabulary: 't5' is not one of clip, hub"),
        (config(stripped_id="-1"), "parameter stripped_id: '-1' is not a whole number of at least 0"),
        (config(max_text_bytes="0"), "parameter max_text_bytes: '0'"),
        (config(max_text_bytes="many"), "parameter max_text_bytes: 'many'"),
        (config(width=2), "output tokens"),
        (config(max_text_byte="100"), "parameter max_text_byte: there are clean, max_text_bytes"),
        (config(Clean="lower"), "parameter Clean"),
    ],
)
def test_unknown_values_are_refused(folder: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenize_text.TextTokenizer.from_config(json.loads(json_text(given)), folder)


def test_the_adapter_answers_each_request(folder: Path) -> None:
    model = load_model(folder / "model.py", config())
    responses = model.execute(
        [
            request("text", [b"a photo of a cat", b""]),
            request("text", [b"fine", b"\xff"]),
            request("text", [b"a photo of a cat"]),
        ]
    )
    first, second, third = responses
    assert first.error is None
    assert first.output_tensors[0].name == "tokens"
    assert first.output_tensors[0].values.dtype == np.int32
    assert first.output_tensors[0].values.tolist() == [CAT + [0] * 70, [49406, 49407] + [0] * 75]
    assert first.output_tensors[1].name == "token_count"
    assert first.output_tensors[1].values.dtype == np.int32
    assert first.output_tensors[1].values.tolist() == [[7], [2]]
    assert (second.error.code, second.output_tensors) == ("INVALID_ARG", [])
    assert second.error.message == "text 1: not UTF-8 at byte 0 (invalid start byte)"
    assert third.output_tensors[0].values.tolist() == [CAT + [0] * 70]


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (1, 2), ()])
def test_the_adapter_refuses_shapes_that_are_none_of_a_batch(folder: Path, shape: tuple[int, ...]) -> None:
    """As [2**62, 1] arrives from Triton 2.51, whose batch sizes have 32 bits."""
    model = load_model(folder / "model.py", config())
    fine = request("text", [b"a photo of a cat"])
    bad = {"text": Tensor("text", np.full(shape, b"a cat", dtype=np.object_))}
    answers = model.execute([fine, bad, fine])
    assert (answers[1].error.code, answers[1].error.message) == (
        "INVALID_ARG", f"text: shape {list(shape)}, expected [-1, 1]"
    )  # fmt: skip
    assert answers[0].output_tensors[0].values.tolist() == [CAT + [0] * 70]
    assert answers[2].output_tensors[0].values.tolist() == [CAT + [0] * 70]


def test_the_adapter_survives_its_own_faults(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(folder / "model.py", config())
    fill = model.tokenizer.fill

    def broken(rows: Any, texts: Any) -> Any:
        if b"bug" in texts:
            raise RuntimeError("a fault")
        return fill(rows, texts)

    monkeypatch.setattr(model.tokenizer, "fill", broken)
    failed, fine = model.execute([request("text", [b"bug"]), request("text", [b"a photo of a cat"])])
    assert (failed.error.code, failed.error.message) == ("INTERNAL", "RuntimeError while tokenizing")
    assert fine.output_tensors[0].values.tolist() == [CAT + [0] * 70]
    logger = type(model).execute.__globals__["pb_utils"].Logger
    assert "a fault" in logger.errors[0]


def test_the_adapter_refuses_to_load_without_the_file(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "1", ignore=shutil.ignore_patterns("tokenizer.json", "__pycache__"))
    with pytest.raises(FileNotFoundError, match="tritonclip-server export VARIANT"):
        load_model(tmp_path / "1" / "model.py", config())


def test_the_file_is_the_same_each_time(tmp_path: Path) -> None:
    digests = {write_tokenizer(SimpleTokenizer(), tmp_path / name) for name in ("one.json", "two.json")}
    assert len(digests) == 1
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_the_file_leans_on_no_unicode_table(folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    pattern = document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    assert pattern.isascii()
    assert "\\p" not in pattern
    assert "\\s" not in pattern
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size() == REFERENCE.vocab_size


def test_settings() -> None:
    assert tokenizer_settings(REFERENCE) == TokenizerSettings(clean="lower", context_length=77, end_id=49_407)
    other = SimpleTokenizer(clean="canonicalize", context_length=64)
    assert tokenizer_settings(other) == TokenizerSettings(clean="canonicalize", context_length=64, end_id=49_407)


def hub_tokenizer(**attributes: Any) -> HFTokenizer:
    """One of the hub with these attributes, without its files."""
    tokenizer = HFTokenizer.__new__(HFTokenizer)
    vars(tokenizer).update(
        {"tokenizer_mode": "", "strip_sep_token": False, "tokenizer": SimpleNamespace()} | attributes
    )
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (hub_tokenizer(tokenizer_mode="clips"), "'clips'"),
        (hub_tokenizer(tokenizer=SimpleNamespace(is_fast=False)), "no fast form"),
        (hub_tokenizer(tokenizer=SimpleNamespace(is_fast=True, pad_token_id=None)), "no padding token"),
        (
            hub_tokenizer(
                tokenizer=SimpleNamespace(is_fast=True, pad_token_id=0, sep_token_id=None), strip_sep_token=True
            ),
            "no separator",
        ),
        (SigLipTokenizer.__new__(SigLipTokenizer), "SigLipTokenizer"),
        (SimpleTokenizer(reduction_mask="simple"), "reduction mask"),
        (SimpleTokenizer(context_length=None), "context length"),
        (SimpleTokenizer(additional_special_tokens=["<a.b>"]), "<a.b>"),
        (SimpleTokenizer(additional_special_tokens=["<ä>"]), "<ä>"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path: Path, tokenizer: Any, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        write_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    assert not (tmp_path / "tokenizer.json").exists()


@pytest.mark.parametrize(
    ("layout", "width", "ids", "row"),
    [
        ({}, 5, [7, 1, 8], [7, 1, 8, 0, 0]),
        ({}, 4, [7, 1, 2, 3, 8], [7, 1, 2, 8]),
        ({"cuts_left": True}, 4, [7, 1, 2, 3, 8], [7, 2, 3, 8]),
        ({"pads_left": True, "pad_id": 9}, 5, [7, 1, 8], [9, 9, 7, 1, 8]),
        ({"prefix": 0, "suffix": 1}, 3, [1, 2, 3, 8], [1, 2, 8]),
        ({"prefix": 2, "suffix": 0}, 3, [7, 6, 1, 2], [7, 6, 1]),
        ({"prefix": 0, "suffix": 0}, 2, [1, 2, 3], [1, 2]),
        ({"prefix": 0, "suffix": 0, "cuts_left": True}, 2, [1, 2, 3], [2, 3]),
        ({"stripped_id": 8, "pad_id": 5}, 5, [7, 8, 1, 8], [7, 0, 1, 0, 5]),
    ],
)
def test_layout_of_a_row(layout: dict[str, Any], width: int, ids: list[int], row: list[int]) -> None:
    found = np.full(width, -1, np.int32)
    token_rows.RowLayout(**layout).write(found, ids)
    assert found.tolist() == row
