"""What a bare string is: a data URL in every spelling, what looks like an image sent in another way, and words."""

# ruff: noqa: E501 - tables of strings, several on a line

import base64
import io
import json
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from tests.images import BLUE_URL, RED, RED_URL, base64_of, encoded
from tests.unit.gateway.conftest import Gateway
from tritonclip.testing import features_of
from tritonclip_server.gateway.content.base64_text import BadBase64, decode
from tritonclip_server.gateway.content.data_urls import HEAD_CHARACTERS, data_url
from tritonclip_server.gateway.content.text_sniffing import disguised_image, holds_json_items, is_url

EMBED, SIMILARITY = "/v1/embeddings", "/v1/similarity"
B64 = base64_of(RED)

SPELLINGS = {
    "as it should be": f"data:image/png;base64,{B64}",
    "scheme in capitals": f"DATA:image/png;base64,{B64}",
    "scheme in both": f"Data:image/png;base64,{B64}",
    "type in capitals": f"data:IMAGE/PNG;base64,{B64}",
    "base64 in capitals": f"data:image/png;BASE64,{B64}",
    "no type": f"data:;base64,{B64}",
    "no type, no semicolon": f"data:base64,{B64}",
    "half a type": f"data:image;base64,{B64}",
    "any bytes": f"data:application/octet-stream;base64,{B64}",
    "the type of a text": f"data:text/plain;base64,{B64}",
    "a type of one's own": f"data:x-image/x.png+raw;base64,{B64}",
    "a parameter": f"data:image/png;charset=utf-8;base64,{B64}",
    "a parameter that is quoted": f'data:image/png;name="a b.png";base64,{B64}',
    "a parameter behind": f"data:image/png;base64;name=a.png,{B64}",
    "a blank before": f" data:image/png;base64,{B64}",
    "a line break before": f"\ndata:image/png;base64,{B64}",
    "control characters before": f"\x00\x1f\tdata:image/png;base64,{B64}",
    "a byte order mark before": f"\ufeffdata:image/png;base64,{B64}",
    "a space of no width before": f"\u200bdata:image/png;base64,{B64}",
    "blanks without end before": " " * (2 * HEAD_CHARACTERS) + f"data:image/png;base64,{B64}",
    "blanks behind": f"data:image/png;base64,{B64} \r\n",
    "blanks within": f"data: image/png ; base64 , {B64}",
    "lines in its head": f"da\nta:ima\r\nge/png;\tbase64,{B64}",
    "lines in its base64": f"data:image/png;base64,{base64.encodebytes(RED).decode()}",
    "lines of carriage returns": "data:image/png;base64," + "\r".join(B64[i : i + 20] for i in range(0, len(B64), 20)),
    "indented": "data:image/png;base64," + "".join(f"\n    {B64[i : i + 20]}  " for i in range(0, len(B64), 20)),
    "in groups": "data:image/png;base64," + " ".join(B64[i : i + 20] for i in range(0, len(B64), 20)),
    "no padding": f"data:image/png;base64,{B64.rstrip('=')}",
    "the other alphabet": f"data:image/png;base64,{base64.urlsafe_b64encode(RED).decode()}",
    "percent-encoded letters": f"data:image/png;base64,%{ord(B64[0]):02x}{B64[1:]}",
    "percent-encoded base64": f"data:image/png;base64,{quote(B64, safe='')}",
    "percent-encoded type": f"data:image%2Fpng;base64,{B64}",
    "percent-encoded as a whole": quote(f"data:image/png;base64,{B64}", safe=""),
    "slashes": f"data://image/png;base64,{B64}",
    "percent-encoded bytes": f"data:image/png,{quote(RED)}",
    "percent-encoded bytes, no type": f"data:,{quote(RED)}",
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_a_data_url_is_an_image_however_it_is_spelt(gateway: Gateway, text: str) -> None:
    answer = gateway.post(EMBED, input=["a", text])
    assert answer["usage"]["num_images"] == 1
    assert answer["data"][1]["embedding"] == pytest.approx(features_of(RED, 16), abs=1e-6)
    assert gateway.post(SIMILARITY, image=text, texts=["a", "b"])["cosine"]
    ranked = gateway.post("/v1/rerank", query="a", documents=[text])
    assert ranked["usage"]["num_images"] == 1


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_it_is_never_a_text(gateway: Gateway, text: str) -> None:
    for path, document, param in (
        (EMBED, {"input": {"text": text}}, "input.text"),
        (SIMILARITY, {"image": BLUE_URL, "texts": ["a", text]}, "texts[1]"),
        ("/v1/classify", {"image": BLUE_URL, "labels": ["a", text]}, "labels[1]"),
        ("/v1/classify", {"image": BLUE_URL, "labels": ["a"], "template": text + "{}"}, "template"),
    ):
        error = gateway.refused(path, 400, **document)
        # (the last template is longer than a text may be where its blanks are many)
        assert (error["code"], error["param"]) == ("not_a_text", param)


SENTENCES = [
    "", "data", "data:", "data: ", "data: the new oil", "data: the new oil, they say", "Data: 1, 2; 3", "data:a,b",
    "data: either/or, whichever", "data:text/image pairs, many of them", "data: image/text pairs, many of them",
    "database: a, b", "date:2026,11", "dataset:image/png;base64,AAAA", "data is red, blue", "d", "D:data,x", "data;a,b",
    "a photo from https://example.com/cat.png", "https://example.com/cat.png shows a cat", "see data:image/png;base64,AA",
    "BMW cars", "P6 5 3 engine", "note: this is a cat", "a:b", "C:\\cats\\cat.png", "cat.png", "[MASK] of a cat", "[1, 2]",
    "deadbeef" * 8, "0" * 7 + "1" + "01" * 16, "/workspace/images/of/cats/and/dogs", "a\\x20b", "C:\\x89PNG", "supercalifragilisticexpialidocious",
    "http: a protocol", "https://example.com/cat.png, shown", "see ![a cat](a.png)", "a.b/c", "example.com", "//comment", "1, 2, 3, 4, 5",
    "<svg> is a tag", "[1] a footnote", "the [object Object] error", "ever more dogs here with cats", "4, " * 20,
    '{"a": "b"}', "{}", "{text}", '{"text": "a"', "0x" + "1234567890" * 4,
    "iVBORw0KGgo", "R0lGODlh is how GIFs begin in base64", "ünïcode, 日本語、テキスト", "\u2028", "100%", "%2F",
]  # fmt: skip


@pytest.mark.parametrize("text", SENTENCES)
def test_words_stay_words(gateway: Gateway, text: str) -> None:
    assert data_url(text) is None
    answer = gateway.post(EMBED, input=text)
    assert answer["usage"]["num_images"] == 0
    assert answer["data"][0]["embedding"] == pytest.approx(features_of(text.encode(), 16), abs=1e-6)


def lookalikes() -> dict[str, str]:
    """Strings that are images, sent in a way that this field does not take."""
    found = {
        url: url
        for url in (
            "http://example.com/cat.png", " HTTPS://EXAMPLE.COM/CAT.PNG\n", "ftp://x/y", "file:///tmp/a.png", "file:a.png",
            "blob:https://example.com/1-2", "<https://example.com/a.png>", "'https://example.com/a.png'", "s3://bucket/a.png",
            "https://example.com/a\n.png", "https://müller.example/ä.png", "url(https://example.com/a.png)", "cid:part1@x",
            "\ufeffhttps://example.com/a.png", "\u200bhttps://example.com/a", "https://example.com/my cat.jpg?x=1", "//example.com/a.webp",
            "example.com/a.jpg", "www.example.com:80/a/b.jpg", "https:/example.com/a", "https:\\\\example.com\\a.png",
            "https%3A%2F%2Fexample.com%2Fa.png", "![a cat](https://example.com/a.png)", '<img alt="a" src="/a.png">',
            "https://example.com/a.jpg https://example.com/b.jpg",
        )
    }  # fmt: skip
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "AVIF", "QOI", "PPM", "ICO"):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(buffer, kind)
        data, text = buffer.getvalue(), base64_of(buffer.getvalue())
        found |= {
            f"{kind} in base64": text,
            f"{kind} with no padding": text.rstrip("="),
            f"{kind} in the other alphabet": base64.urlsafe_b64encode(data).decode(),
            f"{kind} in lines": base64.encodebytes(data).decode(),
            f"{kind}, percent-encoded": quote(text, safe=""),
            f"{kind} as Python shows it": repr(text.encode()),
            f"{kind} in quotes": f' "{text}"',
            f"{kind} as a data URL in quotes": f"'{RED_URL}'",
            f"{kind} in HTML": f'<img src="data:image/x;base64,{text}">',
            f"{kind} in Markdown": f"![a](data:image/x;base64,{text})",
            f"{kind} as Latin-1": data.decode("latin-1"),
        }
        if kind in ("PNG", "JPEG", "GIF", "TIFF", "JPEG2000", "AVIF"):
            found |= {
                f"{kind} as Python shows its bytes": repr(data),
                f"{kind} as JavaScript shows its bytes": "".join(
                    c if c.isalnum() else f"\\u{ord(c):04x}" for c in data.decode("latin-1")
                ),
                f"{kind} in hexadecimal": data.hex(),
                f"{kind} as Postgres shows its bytes": f"\\x{data.hex()}",
                f"{kind} as MySQL shows its bytes": f"0x{data.hex().upper()}",
                f"{kind} as JavaScript shows them all": ",".join(map(str, data)),
                f"{kind} as Python lists them": str(list(data)),
                f"{kind} in base64 of short lines": "\n".join(text[i : i + 8] for i in range(0, len(text), 8)),
                f"{kind} in base64 of fours": " ".join(text[i : i + 4] for i in range(0, len(text), 4)),
                f"{kind} in base64 twice": base64.b64encode(text.encode()).decode(),
                f"{kind} as the base64 of a data URL": base64.b64encode(
                    f"data:image/x;base64,{text}".encode()
                ).decode(),
                f"{kind} as a data URL encoded twice": quote(quote(f"data:image/x;base64,{text}", safe=""), safe=""),
                f"{kind} as a data URL with no scheme": f"image/x;base64,{text}",
                f"{kind} as a data URL with its colon lost": f"data image/x;base64,{text}",
                f"{kind} as a data URL in wide letters": f"\uff44\uff41\uff54\uff41\uff1aimage/x;base64,{text}",
                f"{kind} behind its encoding": f"base64:{text}",
            }
        if kind in ("PNG", "JPEG"):
            found[f"{kind} as UTF-8 that it is not"] = data.decode(errors="replace")
            found[f"{kind} as UTF-8, with the rest left out"] = data.decode(errors="ignore")
            found[f"{kind} as Windows-1252"] = data.decode("cp1252", errors="replace")
    image = Image.new("RGB", (2, 2))
    printed = (
        str(image),
        str(io.BytesIO()),
        str(memoryview(b"")),
        str(np.asarray(image)),
        "tensor([[[0.5]]])",
        "[object File]",
    )
    drawing = '<?xml version="1.0"?>\n<svg width="9"><path d="M1 1"/></svg>\n'
    return found | {f"{text[:10]} printed": text for text in printed} | {"a drawing": drawing}


LOOKALIKES = lookalikes() | {
    f"{begin[:8]!r} in base64": base64_of(begin + bytes(range(40)))
    for begin in (
        b"%PDF-1.4\n",
        b"PK\x03\x04\x14\0",
        b"\x1f\x8b\x08\0",
        b"8BPS\0\1",
        b'<?xml version="1.0"?><svg width="9">',
    )
}


@pytest.mark.parametrize("text", LOOKALIKES.values(), ids=LOOKALIKES)
def test_what_looks_like_an_image_is_told(gateway: Gateway, text: str) -> None:
    error = gateway.refused(EMBED, 400, input=["a", text])
    assert (error["code"], error["param"]) == ("not_a_text", "input[1]")
    for remedy in ('{"image": …}', 'modality "image"', '{"text": …}', 'modality "text"'):
        assert remedy in error["message"]
    for path, document, param in (
        (SIMILARITY, {"image": BLUE_URL, "texts": ["a", text]}, "texts[1]"),
        ("/v1/classify", {"image": BLUE_URL, "labels": ["a", text]}, "labels[1]"),
    ):
        if is_url(text):  # which may be a text where nothing else is taken
            assert gateway.http.post(path, json=document).status_code == 200
        else:
            error = gateway.refused(path, 400, **document)
            assert (error["code"], error["param"]) == ("not_a_text", param)
    partial = gateway.post(EMBED, input=["a", text, "b"], partial=True)
    assert [entry["index"] for entry in partial["data"]] == [0, 2]
    assert [(error["index"], error["code"]) for error in partial["errors"]] == [(1, "not_a_text")]


@pytest.mark.parametrize(
    "document",
    [
        {"input": "https://example.com/a.png", "modality": "text"},
        {"input": ["https://example.com/a.png"], "modality": "text"},
        {"input": {"text": "https://example.com/a.png"}},
        {"input": {"text": B64}},
        {"input": RED_URL, "modality": "text"},
        {"input": {"text": RED_URL}, "modality": "text"},
        {"input": '["a", "b"]', "modality": "text"},
        {"input": ['["a", "b"]']},
        {"messages": [{"content": "https://example.com/a.png"}], "modality": "text"},
    ],
)
def test_who_says_that_it_is_a_text_is_believed(gateway: Gateway, document: dict[str, Any]) -> None:
    answer = gateway.post(EMBED, **document)
    assert answer["usage"]["num_images"] == 0
    assert len(answer["data"]) == 1


def test_a_data_url_of_words_says_how_words_are_sent(gateway: Gateway) -> None:
    for text in (
        "data:text/plain,hello",
        "data:,hello",
        "data:text/html;charset=utf-8;base64,aGVsbG8=",
        "data:;charset=x,a",
    ):
        error = gateway.refused(EMBED, 400, input=text)
        assert (error["code"], error["param"]) == ("invalid_image", "input")
        assert '{"text": …}' in error["message"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("data:image/png", "invalid_base64"),
        ("data:image/png;base64", "invalid_base64"),
        (f"data:image/png;base64{B64}", "invalid_base64"),
        (f"data:image/png,{B64}", "invalid_base64"),
        (f"data:,{B64}", "invalid_base64"),
        ("data:image/png,abc", "invalid_base64"),
        ("data:image/png;base64,", "invalid_image"),
        ("data:image/svg+xml,%3Csvg%3E", "invalid_image"),
        ("data:image/png,\ud800%20", "invalid_image"),
        ("data:image/png," + "%00" * 100_000, "image_too_large"),
        (f"data:image/png;base64,b'{B64}'", "invalid_base64"),
        (f"data:image/png;base64,{B64[:5]}", "invalid_base64"),
    ],
)
def test_a_broken_data_url_is_an_error_never_a_text(gateway: Gateway, text: str, code: str) -> None:
    body = json.dumps({"input": ["a", text]})
    answer = gateway.http.post(EMBED, content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, "input[1]")


@pytest.mark.parametrize("length", [1, 2, 3, 1000, 1001, 1002])
def test_base64_means_its_bytes(length: int) -> None:
    data = bytes(7 * n % 256 for n in range(length))
    text = base64_of(data)
    assert all(
        decode(spelling) == data
        for spelling in (
            text, text.rstrip("="), base64.urlsafe_b64encode(data).decode(), base64.encodebytes(data).decode(), f" {text}\t",
            quote(text, safe=""), quote(quote(text, safe=""), safe=""), text.replace("+", "%2b"), "\v".join(text),
        )
    )  # fmt: skip


def test_long_base64_that_is_percent_encoded() -> None:
    data = bytes(range(248, 256)) * 100_000
    assert decode(quote(base64_of(data), safe="")) == data
    assert decode(quote(quote(base64_of(data), safe=""), safe="")) == data


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("iVBORw0KGgo?AAAA", "'?' at character 12"), ("iVBO\u00e9", r"'\xe9' at character 5"), ("%", "'%' at character 1"),
        ("AAAA=AAA", "'=' at character 5"), ("AAAA\ud800", r"'\ud800' at character 5"), ("AAAAA", "cut off: 5 characters"),
        ("cat.png", "'.' at character 4"), ("AAAA BB!B CCCC", "'!' at character 8"), ("%2541%2541%253F", "at character 1"),
        ("data%2Fimage%253Apng%253B", "at character 1"), ('{"image": "AAAA AAA"}', "'{' at character 1"), ("b'AAAA'", "\"'\" at character 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_base64_is_shown_at_its_place(text: str, said: str) -> None:
    with pytest.raises(BadBase64) as refused:
        decode(text)
    assert said in str(refused.value)


def test_blanks_that_were_pluses_are_no_layout() -> None:
    """A program that takes base64 for a form's value turns "+" into a blank: left out, it is another image."""
    four = "AAA+AA+AAAA+AAAAAA+" + "A" * 25
    with pytest.raises(BadBase64, match="percent-encode"):
        decode(four.replace("+", " "))
    one = base64_of(bytes([0, 0, 62]) + bytes(30))  # one "+" among forty-four characters
    assert one.count("+") == 1
    assert decode(one.replace("+", " ")) == bytes([0, 0, 62]) + bytes(30)
    both = base64_of(bytes([251, 0, 62]) + bytes(30))
    assert decode(both[:9] + " " + both[9:]) == bytes([251, 0, 62]) + bytes(30)  # there is a "+": blanks are layout


@pytest.mark.parametrize(
    "text", ['["a photo", {"text": "b"}]', ' {"text": "a photo of {}"}\n', '{"type": "text", "text": "a {}"}', '["{}"]']
)
def test_items_in_a_string_of_json_are_no_text(gateway: Gateway, text: str) -> None:
    for path, document, param in (
        (EMBED, {"input": text}, "input"),
        (SIMILARITY, {"image": BLUE_URL, "text": text}, "text"),
        ("/v1/rerank", {"query": text, "documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "a", "documents": text}, "documents"),
        (
            "/v1/classify",
            {"image": BLUE_URL, "labels": ["a", "b"], "template": text.replace("photo", "{}")},
            "template",
        ),
    ):
        error = gateway.refused(path, 400, **document)
        assert (error["code"], error["param"]) == ("invalid_value", param)
    assert gateway.post("/v1/rerank", query={"text": text}, documents=[text])["results"][0]["relevance_score"] <= 1


def test_an_image_is_no_part_of_a_template(gateway: Gateway) -> None:
    error = gateway.refused(
        "/v1/classify", 400, image=RED_URL, labels=["a", "b"], template=f"<img src='{BLUE_URL}'> {{}}"
    )
    assert (error["code"], error["param"]) == ("not_a_text", "template")


def test_json_lists_in_strings() -> None:
    assert holds_json_items(' ["a", {"text": "b"}] ', 100)
    for text in ("[MASK]", "[1, 2]", "[]", "a", '["a"', '["a", 1]', "[" + '"a",' * 99 + '"a"]'):
        assert not holds_json_items(text, 100)
    assert disguised_image('["a", "b"]') is None


def test_a_large_image_where_a_text_was_meant_is_told_before_its_length(gateway: Gateway) -> None:
    text = base64_of(encoded("PNG", (64, 64)) + bytes(100_000))
    assert gateway.refused(EMBED, 400, input=[text])["code"] == "not_a_text"
