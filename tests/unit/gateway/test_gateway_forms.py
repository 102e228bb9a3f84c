"""Forms as programs write them by hand: cut off, in other encodings, and with JSON in their fields."""

from typing import Any

import pytest

from tests.images import BLUE, RED, RED_URL
from tests.unit.gateway.conftest import Gateway

EMBED, SIMILARITY = "/v1/embeddings", "/v1/similarity"
ZERO_SHOT = "/v1/models/fake/zero-shot-image-classification"
CONTENT_TYPE = "multipart/form-data; boundary=part"


def form(*parts: tuple[str, bytes], end: bytes = b"--part--\r\n") -> bytes:
    """Fields, each its name and whatever else its head says, and what it holds."""
    heads = (b'--part\r\nContent-Disposition: form-data; name="%s\r\n\r\n%s\r\n' % (n.encode(), v) for n, v in parts)
    return b"".join(heads) + end


def sent(gateway: Gateway, body: bytes, path: str = EMBED, content_type: str = CONTENT_TYPE) -> Any:
    return gateway.http.post(path, content=body, headers={"content-type": content_type})


def refusal(answer: Any) -> tuple[str, str | None]:
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    return error["code"], error["param"]


@pytest.mark.parametrize(
    "end", [b"", b"--part", b"--part\r\n", b'--part\r\nContent-Disposition: form-data; name="text"']
)
def test_a_form_that_is_cut_off_loses_no_field_in_silence(gateway: Gateway, end: bytes) -> None:
    body = form(('text"', b"one"), ('text"', b"two"), end=end)
    assert refusal(sent(gateway, body)) == ("invalid_form", None)
    assert refusal(sent(gateway, b"")) == ("invalid_form", None)
    whole = form(('text"', b"one"), ('text"', b"two"), end=b"--part--")
    assert len(sent(gateway, whole).json()["data"]) == 2


def test_an_encoding_that_nobody_knows_is_not_latin_1(gateway: Gateway) -> None:
    body = form(('text"', "cr\u00e8me".encode()))
    assert refusal(sent(gateway, body, content_type=f"{CONTENT_TYPE}; charset=utf8mb4")) == ("invalid_form", None)
    expected = gateway.post(EMBED, input="cr\u00e8me")["data"]
    for charset in ("", "; charset=UTF-8", "; charset=utf8"):
        assert sent(gateway, body, content_type=CONTENT_TYPE + charset).json()["data"] == expected
    latin = form(('text"', "cr\u00e8me".encode("cp1252")))
    assert sent(gateway, latin, content_type=f"{CONTENT_TYPE}; charset=cp1252").json()["data"] == expected


@pytest.mark.parametrize("head", ['image"', "image\"; filename*=UTF-8''a.png"])
def test_an_image_without_a_filename_is_told_what_it_lacks(gateway: Gateway, head: str) -> None:
    answer = sent(gateway, form((head, BLUE)))
    assert refusal(answer) == ("invalid_image", "image")
    assert "filename" in answer.json()["error"]["message"]


@pytest.mark.parametrize("text", ["[MASK] or [PAD]", "[sic]", "[x, y]", "[1, 2", "1]"])
def test_brackets_in_a_forms_text_are_brackets(gateway: Gateway, text: str) -> None:
    assert sent(gateway, form(('text"', text.encode()))).json() == gateway.post(EMBED, input={"text": text})


@pytest.mark.parametrize(
    ("array", "error"),
    [
        ("[1, 2]", ("invalid_value", "texts[0]")),
        ('["a", null]', ("invalid_value", "texts[1]")),
        ('[["a"], ["b"]]', ("invalid_value", "texts[0]")),
        ('["a", b]', ("invalid_json", "texts")),
        ('["a" "b"]', ("invalid_json", "texts")),
        ('[{"text": "a"},]', ("invalid_json", "texts")),
    ],
)
def test_an_array_that_holds_no_texts_is_no_text_itself(gateway: Gateway, array: str, error: tuple[str, str]) -> None:
    body = form(('image"; filename="a', RED), ('texts"', array.encode())).replace(b'"a\r\n', b'"a"\r\n')
    assert refusal(sent(gateway, body, SIMILARITY)) == error


def test_what_json_can_say_a_form_can_too(gateway: Gateway) -> None:
    messages = b'[{"role": "user", "content": [{"type": "text", "text": "a"}]}]'
    expected = gateway.post(EMBED, input="a")
    assert sent(gateway, form(('messages"', messages))).json() == expected
    assert sent(gateway, form(('input"', b"a"), ('normalized"', b"true"))).json() == expected
    assert refusal(sent(gateway, form(('input"', b"a"), ('normalized"', b"false")))) == ("invalid_value", "normalized")


def test_reasons_are_in_the_words_of_the_api(gateway: Gateway) -> None:
    """Not in pydantic's, which name classes."""
    for path, document, said in (
        (ZERO_SHOT, {"inputs": RED_URL, "parameters": "a, b"}, "parameters: expected an object"),
        ("/v1/classify", {"image": RED_URL, "labels": ["a", "b"], "template": "%s"}, "template: a template needs {}"),
        (EMBED, {"input": "a", "normalized": False}, "normalized: vectors always have length 1"),
    ):
        assert gateway.refused(path, 400, **document)["message"].startswith(said)
