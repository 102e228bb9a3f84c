"""Bodies as people send them: marks, compression, halves of surrogates, forms; and as nobody should."""

import gzip
import json
import random
import tempfile
import zlib
from itertools import pairwise
from typing import Any

import httpx
import orjson
import pytest

from tests.images import BLUE, BLUE_URL, RED, RED_URL, base64_of, encoded
from tests.unit.gateway.conftest import Gateway, gateway_over
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.http.request_context import RequestContext
from tritonclip_server.gateway.parsing.compression import MEMBERS
from tritonclip_server.gateway.parsing.json_body import MAX_VALUES, parts_of, read_json
from tritonclip_server.gateway.settings import Limits, Settings

EMBED, SIMILARITY, CLASSIFY = "/v1/embeddings", "/v1/similarity", "/v1/classify"
JSON = {"content-type": "application/json"}


def post(gateway: Gateway, body: bytes, **headers: str) -> Any:
    """The answer to a body that is as it is."""
    return gateway.http.post(EMBED, content=body, headers=JSON | {n.replace("_", "-"): v for n, v in headers.items()})


def test_a_byte_order_mark_is_nothing(gateway: Gateway) -> None:
    assert post(gateway, b'\xef\xbb\xbf{"input": "a"}').json() == gateway.post(EMBED, input="a")


@pytest.mark.parametrize(
    "kind",
    ["", "application/x-www-form-urlencoded", "text/plain;charset=UTF-8", "application/octet-stream", "text/json",
     "Application/JSON; charset=utf-8"],
)  # fmt: skip
@pytest.mark.parametrize("body", [b'{"input": "a"}', b' \r\n\t{"input": "a"}', b'\xef\xbb\xbf{"input": "a"}'])
def test_an_object_is_json_where_nothing_else_is_said(gateway: Gateway, kind: str, body: bytes) -> None:
    """As curl sends it with -d, Go without a header, and a page's fetch a string."""
    request = gateway.http.build_request("POST", EMBED, content=body, headers={"content-type": kind})
    if not kind:
        del request.headers["content-type"]
    assert gateway.http.send(request).json() == gateway.post(EMBED, input="a")


def test_an_object_that_is_packed_is_json_too(gateway: Gateway) -> None:
    headers = {"content-type": "text/plain", "content-encoding": "gzip"}
    answer = gateway.http.post(EMBED, content=gzip.compress(b'{"input": "a"}'), headers=headers)
    assert answer.json() == gateway.post(EMBED, input="a")


def raw_deflate(data: bytes) -> bytes:
    """As some programs send "deflate": without zlib's header."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("deflate", zlib.compress),
        (" Deflate ", raw_deflate),
        ("identity", bytes),
        ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(b"") + gzip.compress(body[9:])),
        ("Identity , gzip,", gzip.compress),
    ],
)
def test_packed_bodies_are_unpacked(gateway: Gateway, encoding: str, pack: Any) -> None:
    body = json.dumps({"input": ["a", RED_URL]}).encode()
    assert post(gateway, pack(body), content_encoding=encoding).json() == gateway.post(EMBED, input=["a", RED_URL])


def test_what_is_packed_twice_is_not_taken_for_packed_once(gateway: Gateway) -> None:
    headers = [("content-type", "application/json"), ("content-encoding", "gzip"), ("content-encoding", "deflate")]
    answer = gateway.http.post(EMBED, content=zlib.compress(gzip.compress(b'{"input": "a"}')), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (gzip.compress(b"{}") * (MEMBERS + 1), "invalid_encoding"),
        (gzip.compress(b"{}") + gzip.compress(b"{}")[:-3], "invalid_encoding"),
        (gzip.compress(b" " * 300_000) * 3, "body_too_large"),
    ],
)
def test_members_of_gzip_are_bounded_together(fake: FakeServer, body: bytes, code: str) -> None:
    with gateway_over(fake, Settings(limits=Limits(body_bytes=700_000))) as gateway:
        assert post(gateway, body, content_encoding="gzip").json()["error"]["code"] == code


def test_members_that_slices_cut_are_whole(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"".join(gzip.compress(part) for part in (b'{"inp', b"", b'ut": "a"', b"}"))
    expected = gateway.post(EMBED, input="a")
    for size in (1, 2, 3, 19, 20, 21, 64):
        monkeypatch.setattr("tritonclip_server.gateway.parsing.compression._SLICE", size)
        assert post(gateway, body, content_encoding="gzip").json() == expected
        for behind in (b"{}", b"\x1f", b"\x1f{}", bytes(8)):
            assert post(gateway, body + behind, content_encoding="gzip").json()["error"]["code"] == "invalid_encoding"


def test_a_packed_form_is_unpacked(gateway: Gateway) -> None:
    request = httpx.Request("POST", "http://x", files=[("text", (None, "a"))])
    headers = dict(request.headers) | {"content-encoding": "gzip"}
    del headers["content-length"]
    answer = gateway.http.post(EMBED, content=gzip.compress(request.read()), headers=headers)
    assert answer.json() == gateway.post(EMBED, input={"text": "a"})


def test_what_is_unpacked_counts_as_held(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    monkeypatch.setattr(RequestContext, "hold_more", lambda _self, count: held.append(count))
    body = json.dumps({"input": "a" * 5000}).encode()
    with gateway_over(fake) as gateway:
        assert post(gateway, gzip.compress(body), content_encoding="gzip").status_code == 200
        assert post(gateway, body).status_code == 200
    assert held == [len(body)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"input": "\xff"}', "not UTF-8 at byte 12, which is 0xff"),
        (b'{"input": "caf\xe9"}', "not UTF-8 at byte 15, which is 0xe9"),
        ('{"input": "a"}'.encode("utf-16"), "UTF-16"),
        ('{"input": "a"}'.encode("utf-16-be"), "UTF-16"),
        ('{"input": "a"}'.encode("utf-16-le"), "UTF-16"),
        ('{"input": "a"}'.encode("utf-32"), "UTF-32"),
        (gzip.compress(b"{}"), "Content-Encoding"),
        (b'{"input": ["\\ud800", NaN]}', "a number"),
        (b'{"input": ["\\udead", "na\xefve"]}', "not UTF-8 at byte 25, which is 0xef"),
        (b'{"input": ["\\ud800", ' + b"1" * 5000 + b"]}", "a number"),
        (b'{"input": ["\\ud800"' + b"[" * 5000, "no valid JSON"),
        (b'{"input": ["\\ud800", ' + b"[" * 5000 + b"]" * 5000 + b"]}", "too deeply nested"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(gateway: Gateway, body: bytes, said: str) -> None:
    answer = post(gateway, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_json")
    assert said in error["message"]
    assert "set_int_max" not in error["message"]


@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00", "\\uDBFF\\uD83D", "x\\ud83dy"])
def test_half_of_a_surrogate_pair_fails_its_item_alone(gateway: Gateway, half: str) -> None:
    body = '{"input": ["ok", "caf\\u00e9 %s", "fine", "\\ud83d\\ude00"], "partial": %s}'
    answer = post(gateway, (body % (half, "true")).encode()).json()
    assert [entry["index"] for entry in answer["data"]] == [0, 2, 3]
    assert [(error["index"], error["code"], error["param"]) for error in answer["errors"]] == [
        (1, "invalid_text", "input[1]")
    ]
    assert answer["data"][2]["embedding"] == gateway.post(EMBED, input="😀")["data"][0]["embedding"]
    refused = post(gateway, (body % (half, "false")).encode())
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[1]")


@pytest.mark.parametrize(
    ("path", "document", "code", "param"),
    [
        (EMBED, '{"input": "a", "\\ud800": 1}', "unknown_field", "\\ud800"),
        (EMBED, '{"input": "a", "model": "\\ud800"}', "invalid_value", "model"),
        (EMBED, '{"input": "a", "modality": "\\ud800"}', "invalid_value", "modality"),
        (EMBED, '{"input": {"\\ud800": "a"}}', "invalid_value", "input"),
        (EMBED, '{"input": {"image": "\\ud800"}}', "invalid_base64", "input.image"),
        (EMBED, '{"input": {"image": "http://\\ud800/a"}}', "url_images_disabled", "input.image"),
        (EMBED, '{"input": "data:image/png;base64,AA\\ud800"}', "invalid_base64", "input"),
        (CLASSIFY, '{"image": "AAAA", "label_set": "\\ud800"}', "invalid_value", "label_set"),
        (CLASSIFY, '{"image": "AAAA", "labels": ["a", "\\ud800"]}', "invalid_text", "labels[1]"),
        ("/v1/rerank", '{"query": "\\ud800", "documents": ["a"]}', "invalid_text", "query"),
    ],
)  # fmt: skip
def test_half_of_a_surrogate_pair_anywhere_is_no_fault_of_ours(
    gateway: Gateway, path: str, document: str, code: str, param: str
) -> None:
    answer = gateway.http.post(path, content=document, headers=JSON)
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert answer.status_code == 400


def test_documents_with_halves_come_back_without_them(gateway: Gateway) -> None:
    body = '{"query": "q", "documents": ["a\\ud800", {"text": "b"}], "return_documents": true, "partial": true}'
    answer = gateway.http.post("/v1/rerank", content=body, headers=JSON).json()
    assert [result["document"] for result in answer["results"]] == [{"text": "b"}]


def random_value(source: random.Random, depth: int = 0) -> Any:
    kind = source.random()
    if depth > 3 or kind < 0.5:
        return source.choice([1, 2.5, None, True, "a", "a,b:[{", "\\", '"', '\\"', 'x\\\\"', "é\u2028", "\n,"])
    if kind > 0.9:
        return [source.choice([0, 9, 257, -1, 1e9, 0.5]) for _ in range(source.randint(0, 9))]
    values = [random_value(source, depth + 1) for _ in range(source.randint(0, 4))]
    return values if kind < 0.75 else {f"{source.random()}{source.choice('ab,:')}": value for value in values}


def parts(value: Any) -> int:
    """What `parts_of` counts, from what was written, numbers like other values."""
    if isinstance(value, dict):
        return max(1, len(value)) + 2 * len(value) + sum(map(parts, value.values()))
    return max(1, len(value)) + sum(map(parts, value)) if isinstance(value, list) else int(isinstance(value, str))


def neighbours(value: Any) -> int:
    """How many numbers of lists have one before them."""
    if isinstance(value, dict):
        return sum(map(neighbours, value.values()))
    if not isinstance(value, list):
        return 0
    pairs = sum(type(first) in (int, float) and type(second) in (int, float) for first, second in pairwise(value))
    return pairs + sum(map(neighbours, value))


def test_values_are_counted_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in strings, and wherever a slice ends."""
    source = random.Random(7)
    numbers = 0
    for _ in range(500):
        value = random_value(source)
        numbers += neighbours(value)
        body = json.dumps(value, ensure_ascii=source.random() < 0.5, separators=(",", ":")).encode()
        escapes = body.count(b"\\") // 20
        whole = parts(value) - neighbours(value) + neighbours(value) // 3
        assert 0 <= parts_of(body, 10**9) - whole <= escapes
        monkeypatch.setattr("tritonclip_server.gateway.parsing.json_body._SLICE", source.choice([2, 3, 7, 64, 1000]))
        assert whole <= parts_of(body, 10**9) <= parts(value) + escapes  # a slice may end between two numbers
        monkeypatch.undo()
    assert numbers > 100


def test_as_many_token_ids_as_a_program_may_send_are_let_through_and_no_more_of_anything_else() -> None:
    many = b'{"input": [' + b",".join([b"[" + b"257, " * 590 + b"-1]"] * 1000) + b"]}"
    assert len(read_json(many)["input"]) == 1000
    with pytest.raises(ApiError, match="token ids"):
        read_json(b'{"input": [' + b"0," * 600_100 + b"0]}")
    for piece in (b"[0],", b"null,", b"[],0,"):
        with pytest.raises(ApiError, match=str(MAX_VALUES)):
            read_json(b'{"input": [' + piece * (2 * MAX_VALUES + 2) + b"0]}")


@pytest.mark.parametrize(
    "piece", [b"[],", b'"",', b'{"":0},', b"[[]],", b'"\\"",', b'{"a":"b"},', b'"' + b"\\n" * 20 + b'",']
)
def test_a_body_of_small_values_is_refused_before_it_is_parsed(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orjson, "loads", lambda _body: pytest.fail("it was parsed"))
    with pytest.raises(ApiError, match=str(MAX_VALUES)) as refused:
        read_json(b'{"input": [' + piece * (2 * MAX_VALUES + 2) + b"0]}")
    assert refused.value.code == "too_many_items"


def test_as_many_values_as_a_request_may_need_are_fine(gateway: Gateway) -> None:
    """64 texts of nothing but commas, quotes and brackets, and 64 images whose base64 has its slashes escaped."""
    texts = [(f'{index}",[{{:' * 2000)[:9999] for index in range(64)]
    assert len(gateway.post(EMBED, input=texts)["data"]) == 64
    image = base64_of(encoded("PNG", (8, 8)) + bytes([255] * 3000)).replace("/", "\\/").replace("+", "\\u002b")
    body = f'{{"input": [{",".join([chr(34) + image + chr(34)] * 64)}], "modality": "image"}}'
    assert len(post(gateway, body.encode()).json()["data"]) == 64


def test_many_unknown_fields_are_one_error(gateway: Gateway) -> None:
    """Each of which pydantic would describe."""
    document = {"input": "a"} | {f"x{index}" * 20: 0 for index in range(60_000)}
    error = gateway.refused(EMBED, 400, **document)
    assert error["code"] == "unknown_field"
    assert len(error["message"]) < 200
    parameters = {"candidate_labels": ["a", "b"]} | {f"y{index}": 0 for index in range(60_000)}
    path = "/v1/models/fake/zero-shot-image-classification"
    assert gateway.refused(path, 400, inputs=RED_URL, parameters=parameters)["param"] == "parameters.y0"


def test_what_is_long_is_not_repeated(gateway: Gateway) -> None:
    long = "x" * 100_000
    for document in ({"model": long}, {"user": long}, {"task": long}, {long: 1}, {"encoding_format": long}):
        answer = gateway.http.post(EMBED, json={"input": "a"} | document)
        assert answer.status_code in (400, 404)
        assert len(answer.content) < 1000
    assert len(gateway.http.post(CLASSIFY, json={"image": RED_URL, "label_set": long}).content) < 1000


def test_files_need_no_disk(fake: FakeServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there is no such folder"))
    large = RED + bytes(3_000_000)
    with gateway_over(fake, Settings(limits=Limits())) as gateway:
        files: list[Any] = [("image", ("a.png", large)), ("image", ("b.png", BLUE)), ("text", (None, "a"))]
        answer = gateway.http.post(SIMILARITY, files=files)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["cosine"]) == 2


def test_json_arrays_in_a_forms_fields(gateway: Gateway) -> None:
    files: list[Any] = [("image", ("red.png", RED))]
    for name, path in (("labels", CLASSIFY), ("texts", SIMILARITY), ("text", SIMILARITY)):
        expected = gateway.http.post(path, files=files, data={name: ["a, b", "c"]}).json()
        for field in ('["a, b", "c"]', ' ["a, b","c"]\n', ['["a, b"]', "c"], ["a, b", '["c"]']):
            answer = gateway.http.post(path, files=files, data={name: field}).json()
            assert answer == expected, field
    one = gateway.http.post(CLASSIFY, files=files, data={"labels": '["a, b"]'}).json()
    assert [label["label"] for label in one["data"][0]["labels"]] == ["a, b"]
    images = gateway.http.post(
        SIMILARITY, data={"images": json.dumps([RED_URL, BLUE_URL])}, files=[("text", (None, "a"))]
    )
    assert images.json()["cosine"] == gateway.post(SIMILARITY, images=[RED_URL, BLUE_URL], text="a")["cosine"]
    fields: list[Any] = [("input", (None, json.dumps(["a", {"image": RED_URL}]))), ("text", (None, '["b"]'))]
    items = gateway.http.post(EMBED, files=fields)
    assert items.json() == gateway.post(EMBED, input=["a", {"image": RED_URL}, {"text": "b"}])
    fields = [("query", (None, "q")), ("documents", (None, '["a", "b"]'))]
    ranked = gateway.http.post("/v1/rerank", files=fields)
    assert ranked.json()["results"] == gateway.post("/v1/rerank", query="q", documents=["a", "b"])["results"]


def test_an_empty_array_in_a_form_is_no_item(gateway: Gateway) -> None:
    fields: list[Any] = [("image", ("a.png", RED)), ("labels", (None, "[]"))]
    answer = gateway.http.post(CLASSIFY, files=fields)
    assert answer.json()["error"]["code"] == "missing_field"


def test_a_forms_array_of_too_many_values_is_refused(gateway: Gateway) -> None:
    array = "[" + '"a",' * 250_000 + '"a"]'
    fields: list[Any] = [("image", ("a.png", RED)), ("texts", (None, array))]
    answer = gateway.http.post(SIMILARITY, files=fields)
    assert answer.json()["error"]["code"] == "too_many_items"


def test_the_arrays_of_a_form_are_bounded_together(gateway: Gateway) -> None:
    """Two thousand fields of small arrays would be millions of texts in memory, before anybody counts texts."""
    array = "[" + '"a",' * 1000 + '"a"]'
    fields: list[Any] = [("image", ("a.png", RED)), *[("texts", (None, array)) for _ in range(101)]]
    error = gateway.http.post(SIMILARITY, files=fields).json()["error"]
    assert (error["code"], error["param"]) == ("too_many_items", "texts")
    assert "100000 values" in error["message"]
