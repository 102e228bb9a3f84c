"""Requests that must be refused, each with the status, the code and the `param` that name the fault.

The table is run twice: in memory, with the real preprocessing behind a fake server, and over the network against a
gateway on a real Triton. Both have the limits below.
"""

# ruff: noqa: E501 - a case a line, so that the table reads as one

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from tests.images import BLUE_URL, RED, RED_URL, base64_of, data_url, encoded, png_that_claims
from tritonclip_server.gateway.settings import Limits

LIMITS = Limits(images=4, texts=8, body_bytes=400_000, image_bytes=100_000, image_pixels=4_000_000, text_characters=500)

EMBED, SIMILAR, CLASSIFY, RERANK = "/v1/embeddings", "/v1/similarity", "/v1/classify", "/v1/rerank"
ZERO_SHOT = "/v1/models/{model}/zero-shot-image-classification"


@dataclass(frozen=True)
class Bad:
    """One request and how it is refused. `{model}` in the path stands for the model that is served."""

    name: str
    path: str
    document: Any = None
    body: bytes | None = None
    content_type: str = "application/json"
    encoding: str | None = None
    form: list[tuple[str, Any]] = field(default_factory=list)
    status: int = 400
    code: str = "invalid_value"
    param: str | None = None

    def request(self) -> dict[str, Any]:
        """Keyword arguments for httpx."""
        if self.form:
            return {
                "files": [(name, value if isinstance(value, tuple) else (None, value)) for name, value in self.form]
            }
        body = self.body if self.body is not None else json.dumps(self.document).encode()
        encoding = {"content-encoding": self.encoding} if self.encoding else {}
        return {"content": body, "headers": {"content-type": self.content_type} | encoding}


def _raw(name: str, body: bytes, code: str = "invalid_json", **rest: Any) -> Bad:
    return Bad(name, EMBED, body=body, code=code, **rest)


def _image(name: str, data: bytes, code: str = "invalid_image", **rest: Any) -> Bad:
    """An unusable image behind a good one."""
    document = {"images": [RED_URL, data_url(data)], "text": "a"}
    return Bad(name, SIMILAR, document, code=code, param="images[1]", **rest)


JPEG = encoded("JPEG", (64, 64))

BODIES = [
    _raw("no body", b""),
    _raw("not JSON", b"hello"),
    _raw("half of JSON", b'{"input": ["a"'),
    _raw("NaN", b'{"input": "a", "dimensions": NaN}'),
    _raw("Infinity", b'{"input": [Infinity]}'),
    _raw("a lone surrogate", b'{"input": "\\ud800"}', "invalid_text", param="input"),
    _raw("not UTF-8", b'{"input": "\xff"}'),
    _raw("UTF-16", '{"input": "a"}'.encode("utf-16")),
    _raw("a lone surrogate in a number's place", b'{"input": "\\ud800", "dimensions": NaN}'),
    _raw("more values than any request needs", b'{"input": [' + b"[]," * 120_000 + b"[]]}", "too_many_items"),
    _raw("nothing but quotes", b'"' * 390_000, "invalid_json"),
    _raw("packed, and it does not say so", gzip.compress(b'{"input": "a"}')),
    _raw("not packed, but it says so", b'{"input": "a"}', "invalid_encoding", encoding="gzip"),
    _raw("packed and cut off", gzip.compress(b'{"input": "a"}')[:-2], "invalid_encoding", encoding="gzip"),
    _raw("packed, with more behind it", gzip.compress(b"{}") + b"{}", "invalid_encoding", encoding="gzip"),
    _raw(
        "a bomb of a body", gzip.compress(bytes(2 * LIMITS.body_bytes)), "body_too_large", encoding="gzip", status=413
    ),
    _raw("packed in another way", b"{}", "unsupported_media_type", encoding="br", status=415),
    _raw("packed twice", b"{}", "unsupported_media_type", encoding="gzip, gzip", status=415),
    _raw("a list", b'["a"]'),
    _raw("a string", b'"a"'),
    _raw("null", b"null"),
    _raw("nested too deep", b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    _raw("comments", b'{"input": "a"} // ok?'),
    _raw("too large", b'{"input": "' + b"a" * LIMITS.body_bytes + b'"}', "body_too_large", status=413),
    _raw(
        "a URL-encoded form",
        b"input=a",
        "unsupported_media_type",
        status=415,
        content_type="application/x-www-form-urlencoded",
    ),
    _raw("plain text", b"a", "unsupported_media_type", status=415, content_type="text/plain"),
    _raw("no content type, and no object", b"[]", "unsupported_media_type", status=415, content_type=""),
    _raw("an empty body of no type", b"", "unsupported_media_type", status=415, content_type=""),
    _raw(
        "a form of the old kind",
        b"input=a",
        "unsupported_media_type",
        status=415,
        content_type="application/x-www-form-urlencoded",
    ),
    _raw("half an object of no type", b'{"input": ', "invalid_json", content_type=""),
    _raw("an object in XML's name", b'{"input": "a"}', "unsupported_media_type", status=415, content_type="text/xml"),
    _raw("a form with no boundary", b"a", "invalid_form", content_type="multipart/form-data"),
    _raw(
        "half of a form",
        b'--x\r\nContent-Disposition: form-data; name="input"\r\n\r\na',
        "invalid_form",
        content_type="multipart/form-data; boundary=x",
    ),
    _raw(
        "a form part with no name",
        b"--x\r\nContent-Type: text/plain\r\n\r\na\r\n--x--\r\n",
        "invalid_form",
        content_type="multipart/form-data; boundary=x",
    ),
]

FIELDS = [
    Bad("no input", EMBED, {}, code="missing_field", param="input"),
    Bad("input null", EMBED, {"input": None}, code="missing_field", param="input"),
    Bad("input empty", EMBED, {"input": []}, code="missing_field", param="input"),
    Bad("input and messages", EMBED, {"input": "a", "messages": []}, param="messages"),
    Bad("unknown field", EMBED, {"input": "a", "inputs": "b"}, code="unknown_field", param="inputs"),
    Bad("unknown model", EMBED, {"input": "a", "model": "gpt-4"}, status=404, code="model_not_found", param="model"),
    Bad("model of a wrong type", EMBED, {"input": "a", "model": 3}, param="model"),
    Bad("unknown encoding", EMBED, {"input": "a", "encoding_format": "hex"}, param="encoding_format"),
    Bad("other dimensions", EMBED, {"input": "a", "dimensions": 7}, code="unsupported_dimensions", param="dimensions"),
    Bad("dimensions as text", EMBED, {"input": "a", "dimensions": "7"}, param="dimensions"),
    Bad("not normalised", EMBED, {"input": "a", "normalized": False}, param="normalized"),
    Bad("unknown modality", EMBED, {"input": "a", "modality": "audio"}, param="modality"),
    Bad("partial as text", EMBED, {"input": "a", "partial": "yes"}, param="partial"),
    Bad("tokens", EMBED, {"input": [1, 2, 100_256]}, code="invalid_tokens", param="input"),
    Bad("lists of tokens", EMBED, {"input": [[1, 2], [-3]]}, code="invalid_tokens", param="input[1]"),
    Bad("one token", EMBED, {"input": 5}, param="input"),
    Bad("a boolean item", EMBED, {"input": ["a", True]}, param="input[1]"),
    Bad("a null item", EMBED, {"input": ["a", None]}, param="input[1]"),
    Bad("an empty object", EMBED, {"input": ["a", {}]}, param="input[1]"),
    Bad("text and image in one", EMBED, {"input": [{"text": "a", "image": RED_URL}]}, param="input[0]"),
    Bad("text of a wrong type", EMBED, {"input": [{"text": 3}]}, param="input[0].text"),
    Bad("image of a wrong type", EMBED, {"input": [{"image": ["a"]}]}, param="input[0].image"),
    Bad("image null", EMBED, {"input": [{"image": None}]}, param="input[0].image"),
    Bad("two parts", EMBED, {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}]}, param="messages[0].content"),
    Bad("two messages", EMBED, {"messages": [{"role": "user", "content": "a"}] * 2}, param="messages"),
    Bad("a message with no content", EMBED, {"messages": [{"role": "user"}]}, code="missing_field", param="messages[0].content"),
    Bad("an audio part", EMBED, {"messages": [{"content": [{"type": "input_audio", "input_audio": {}}]}]}, param="messages[0].content[0].type"),
    Bad("dimensions of Voyage's", EMBED, {"input": "a", "output_dimension": 3}, code="unsupported_dimensions", param="output_dimension"),
    Bad("base64 as dtype", EMBED, {"input": "a", "output_dtype": "base64"}, param="output_dtype"),
    Bad("two types", EMBED, {"input": "a", "embedding_type": ["float", "int8"]}, param="embedding_type"),
    Bad("no type", EMBED, {"input": "a", "embedding_type": []}, param="embedding_type"),
    Bad("two dtypes", EMBED, {"input": "a", "encoding_format": "int8", "output_dtype": "binary"}, param="output_dtype"),
    Bad("two encodings", EMBED, {"input": "a", "encoding_format": "float", "embedding_type": "base64"}, param="embedding_type"),
    Bad("texts cut at their start", EMBED, {"input": "a", "truncate": "START"}, param="truncate"),
    Bad("truncate of no meaning", EMBED, {"input": "a", "truncate": "maybe"}, param="truncate"),
    Bad("a list in a string", EMBED, {"input": '["a", "b"]'}, param="input"),
    Bad("texts in a string", SIMILAR, {"image": RED_URL, "texts": ' ["a", "b"] '}, param="texts"),
    Bad("documents in a string", RERANK, {"query": "a", "documents": '["a", {"text": "b"}]'}, param="documents"),
    Bad("no image", SIMILAR, {"text": "a"}, code="missing_field", param="image"),
    Bad("no text", SIMILAR, {"image": RED_URL}, code="missing_field", param="text"),
    Bad("no images in a list", SIMILAR, {"images": [], "text": "a"}, code="missing_field", param="images"),
    Bad("image and images", SIMILAR, {"image": RED_URL, "images": [RED_URL], "text": "a"}, param="images"),
    Bad("a number for a text", SIMILAR, {"image": RED_URL, "texts": ["a", 2.5]}, param="texts[1]"),
    Bad("no labels", CLASSIFY, {"image": RED_URL}, code="missing_field", param="labels"),
    Bad("labels and a label set", CLASSIFY, {"image": RED_URL, "labels": ["a"], "label_set": "x"}, param="label_set"),
    Bad("unknown label set", CLASSIFY, {"image": RED_URL, "label_set": "x"}, code="unknown_label_set", param="label_set"),
    Bad("template with no place", CLASSIFY, {"image": RED_URL, "labels": ["a"], "template": "a"}, param="template"),
    Bad("top_k of zero", CLASSIFY, {"image": RED_URL, "labels": ["a"], "top_k": 0}, param="top_k"),
    Bad("top_k with a fraction", CLASSIFY, {"image": RED_URL, "labels": ["a"], "top_k": 1.5}, param="top_k"),
    Bad("threshold above one", CLASSIFY, {"image": RED_URL, "labels": ["a"], "threshold": 2}, param="threshold"),
    Bad("a label of a wrong type", CLASSIFY, {"image": RED_URL, "labels": ["a", {}]}, param="labels[1]"),
    Bad("labels in a string", CLASSIFY, {"image": RED_URL, "labels": "a, b"}, param="labels"),
    Bad("labels in lines", CLASSIFY, {"image": RED_URL, "labels": "a\nb"}, param="labels"),
    Bad("labels in a string of JSON", CLASSIFY, {"image": RED_URL, "labels": '["a", "b"]'}, param="labels"),
    Bad("labels in a string of Python", CLASSIFY, {"image": RED_URL, "labels": "['a']"}, param="labels"),
    Bad("equal labels", CLASSIFY, {"image": RED_URL, "labels": ["a b", "c", " A\tb"]}, code="duplicate_label", param="labels[2]"),
    Bad("a threshold for one label", CLASSIFY, {"image": RED_URL, "labels": ["a"], "threshold": 0.5}, param="threshold"),
    Bad("a cosine above one", CLASSIFY, {"image": RED_URL, "labels": ["a"], "min_cosine": 1.5}, param="min_cosine"),
    Bad("fewer tokens than the model reads", RERANK, {"query": "a", "documents": ["a"], "max_tokens_per_doc": 10}, param="max_tokens_per_doc"),
    Bad("no query", RERANK, {"documents": ["a"]}, code="missing_field", param="query"),
    Bad("several queries", RERANK, {"query": ["a"], "documents": ["a"]}, param="query"),
    Bad("no documents", RERANK, {"query": "a", "documents": []}, code="missing_field", param="documents"),
    Bad("a document of a wrong type", RERANK, {"query": "a", "documents": ["a", False]}, param="documents[1]"),
    Bad("top_n below one", RERANK, {"query": "a", "documents": ["a"], "top_n": -1}, param="top_n"),
    Bad("no parameters", ZERO_SHOT, {"inputs": RED_URL}, code="missing_field", param="parameters"),
    Bad("no candidate labels", ZERO_SHOT, {"inputs": RED_URL, "parameters": {}}, code="missing_field", param="parameters.candidate_labels"),
    Bad("one candidate label", ZERO_SHOT, {"inputs": RED_URL, "parameters": {"candidate_labels": "a,"}}, param="parameters.candidate_labels"),
    Bad("candidate labels of commas", ZERO_SHOT, {"inputs": RED_URL, "parameters": {"candidate_labels": ",,"}}, code="missing_field", param="parameters.candidate_labels"),
    Bad("candidate labels in JSON in a string", ZERO_SHOT, {"inputs": RED_URL, "parameters": {"candidate_labels": '["a", "b"]'}}, param="parameters.candidate_labels"),
    Bad("equal candidate labels", ZERO_SHOT, {"inputs": RED_URL, "parameters": {"candidate_labels": "a, b, A"}}, code="duplicate_label", param="parameters.candidate_labels[2]"),
    Bad("an unknown parameter", ZERO_SHOT, {"inputs": RED_URL, "parameters": {"candidate_labels": "a,b", "x": 1}}, code="unknown_field", param="parameters.x"),
    Bad("no inputs", ZERO_SHOT, {"parameters": {"candidate_labels": ["a"]}}, code="missing_field", param="inputs"),
    Bad("zero-shot with another model", "/v1/models/other/zero-shot-image-classification", {"inputs": RED_URL, "parameters": {"candidate_labels": ["a"]}}, status=404, code="model_not_found", param="model"),
]  # fmt: skip

ITEMS = [
    Bad("too many items", EMBED, {"input": ["a"] * (LIMITS.texts + 1)}, code="too_many_items", param="input"),
    Bad("a huge list", EMBED, {"input": ["a"] * 50_000}, code="too_many_items", param="input"),
    Bad("too many images", EMBED, {"input": ["a"] + [RED_URL] * (LIMITS.images + 1)}, code="too_many_items", param="input"),
    Bad("too many images beside each other", SIMILAR, {"images": [RED_URL] * (LIMITS.images + 1), "text": "a"}, code="too_many_items", param="images"),
    Bad("too many texts for an image", SIMILAR, {"image": RED_URL, "texts": ["a"] * (LIMITS.texts + 1)}, code="too_many_items", param="texts"),
    Bad("text too long", EMBED, {"input": ["a", "b" * (LIMITS.text_characters + 1)]}, code="text_too_long", param="input[1]"),
    Bad("label too long", CLASSIFY, {"image": RED_URL, "labels": ["a", "b" * 501]}, code="text_too_long", param="labels[1]"),
    Bad("too many candidate labels", ZERO_SHOT, {"inputs": RED_URL, "parameters": {"candidate_labels": "a," * 50}}, code="too_many_items", param="parameters.candidate_labels"),
    Bad("a text of too many tokens", EMBED, {"input": ["a", "word " * 90], "truncate": False}, code="text_too_long", param="input[1]"),
    Bad("a label of too many tokens", CLASSIFY, {"image": RED_URL, "labels": ["a", "word " * 90], "truncate": "NONE"}, code="text_too_long", param="labels[1]"),
    Bad("a text with half a surrogate", EMBED, {"input": ["a", "b\ud800", "c"]}, code="invalid_text", param="input[1]"),
    Bad("a template with half a surrogate", CLASSIFY, {"image": RED_URL, "labels": ["a"], "template": "{}\ud800"}, code="invalid_text", param="template"),
    Bad("a template that is too long", CLASSIFY, {"image": RED_URL, "labels": ["a"], "template": "{}" * 300}, code="text_too_long", param="template"),
    Bad("a template of many places", CLASSIFY, {"image": RED_URL, "labels": ["a", "b" * 9], "template": "{}" * 100}, code="text_too_long", param="labels[1]"),
    Bad("a data URL for a text", SIMILAR, {"image": RED_URL, "texts": ["a", RED_URL]}, code="not_a_text", param="texts[1]"),
    Bad("a data URL for a label", CLASSIFY, {"image": RED_URL, "labels": ["a", "DATA:;base64,AAAA"]}, code="not_a_text", param="labels[1]"),
    Bad("a data URL for a template", CLASSIFY, {"image": RED_URL, "labels": ["a"], "template": "data:,{}"}, code="not_a_text", param="template"),
    Bad("a data URL in a text object", EMBED, {"input": {"text": RED_URL}}, code="not_a_text", param="input.text"),
    Bad("a data URL of words", EMBED, {"input": "data:text/plain,hello"}, code="invalid_image", param="input"),
    Bad("a data URL cut off", EMBED, {"input": "data:image/png;base64"}, code="invalid_base64", param="input"),
    Bad("the URL of an image among texts", EMBED, {"input": ["a", "HTTPS://example.com/a.png"]}, code="not_a_text", param="input[1]"),
    Bad("the base64 of an image among texts", EMBED, {"input": ["a", base64_of(RED)]}, code="not_a_text", param="input[1]"),
    Bad("the base64 of an image as a document", RERANK, {"query": "a", "documents": [base64_of(RED)]}, code="not_a_text", param="documents[0]"),
    Bad("a URL as a query", RERANK, {"query": "http://example.com/a.png", "documents": ["a"]}, code="not_a_text", param="query"),
    Bad("a URL in a message", EMBED, {"messages": [{"content": "http://example.com/a.png"}]}, code="not_a_text", param="messages[0].content"),
    _image("an image of no bytes", b""),
    _image("text as an image", b"this is no image"),
    _image("HTML as an image", b"<html><body>not found</body></html>"),
    _image("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    _image("PDF", b"%PDF-1.7\n1 0 obj"),
    _image("zeros", bytes(1000)),
    _image("half a JPEG", JPEG[: len(JPEG) // 2]),
    _image("a JPEG header alone", JPEG[:4]),
    _image("half a PNG", RED[: len(RED) // 2]),
    _image("a PNG of no pixels", png_that_claims(0, 0)),
    _image("a PNG whose pixels are missing", png_that_claims(200, 200)),
    _image("a bomb", png_that_claims(30_000, 30_000), "image_has_too_many_pixels"),
    _image("a bomb beyond 32 bits", png_that_claims(2**31 - 1, 2**31 - 1), "image_has_too_many_pixels"),
    _image("a large flat image", encoded("PNG", (3000, 3000)), "image_has_too_many_pixels"),
    _image("too many bytes", JPEG + bytes(LIMITS.image_bytes), "image_too_large"),
    Bad("base64 in quotes", SIMILAR, {"image": repr(base64_of(RED).encode()), "text": "a"}, code="invalid_base64", param="image"),
    Bad("bad base64", SIMILAR, {"image": "data:image/png;base64,????", "text": "a"}, code="invalid_base64", param="image"),
    Bad("base64 cut off", SIMILAR, {"image": base64_of(RED)[:-3], "text": "a"}, code="invalid_base64", param="image"),
    Bad("base64 that is no ASCII", SIMILAR, {"image": "żółć", "text": "a"}, code="invalid_base64", param="image"),
    Bad("an empty string for an image", SIMILAR, {"image": "", "text": "a"}, code="invalid_image", param="image"),
    Bad("a data URL with no base64", SIMILAR, {"image": "data:image/png,abc", "text": "a"}, code="invalid_base64", param="image"),
    Bad("a data URL of text", SIMILAR, {"image": "data:text/plain;base64,aGk=", "text": "a"}, code="invalid_image", param="image"),
    Bad("a web URL", SIMILAR, {"image": "http://example.com/a.png", "text": "a"}, code="url_images_disabled", param="image"),
    Bad("a web URL in an item", EMBED, {"input": [{"image": "https://example.com/a.png"}]}, code="url_images_disabled", param="input[0].image"),
    Bad("a file URL", SIMILAR, {"image": "file:///etc/passwd", "text": "a"}, code="url_images_disabled", param="image"),
    Bad("a bad image among texts", EMBED, {"input": ["a", BLUE_URL, data_url(b"no"), "b"]}, code="invalid_image", param="input[2]"),
    Bad("a bad document", RERANK, {"query": "a", "documents": ["a", {"image": data_url(b"no")}]}, code="invalid_image", param="documents[1].image"),
    Bad("a bad query", RERANK, {"query": {"image": "!"}, "documents": ["a"]}, code="invalid_base64", param="query.image"),
    Bad("a bad image to classify", CLASSIFY, {"image": data_url(b"no"), "labels": ["a"]}, code="invalid_image", param="image"),
    Bad("bad inputs", ZERO_SHOT, {"inputs": "%%%", "parameters": {"candidate_labels": ["a", "b"]}}, code="invalid_base64", param="inputs"),
]  # fmt: skip

FORMS = [
    Bad("a form with no image", SIMILAR, form=[("text", "a")], code="missing_field", param="image"),
    Bad("a form with a bad file", SIMILAR, form=[("image", ("a.png", b"no image")), ("text", "a")], code="invalid_image", param="image"),
    Bad("a form with an empty file", SIMILAR, form=[("image", ("a.png", b"")), ("text", "a")], code="invalid_image", param="image"),
    Bad("a form with a file for a text", SIMILAR, form=[("image", ("a.png", RED)), ("text", ("a.txt", b"a"))], param="text"),
    Bad("a form with an unknown field", SIMILAR, form=[("image", ("a.png", RED)), ("txt", "a")], code="unknown_field", param="txt"),
    Bad("a form with a bad number", CLASSIFY, form=[("image", ("a.png", RED)), ("labels", "a"), ("top_k", "many")], param="top_k"),
    Bad("a form with labels in a string", CLASSIFY, form=[("image", ("a.png", RED)), ("labels", "a, b")], param="labels"),
    Bad("a form with a text in Latin-1", SIMILAR, body=b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\ncaf\xe9\r\n--x--\r\n', content_type="multipart/form-data; boundary=x", code="invalid_text", param="text"),
    Bad("a form with too many fields", SIMILAR, form=[("text", "a")] * 100, code="invalid_form"),
    Bad("a form with a bad second file", EMBED, form=[("image", ("a.png", RED)), ("image", ("b.png", b"no"))], code="invalid_image", param="input[1]"),
]  # fmt: skip

BAD_INPUTS = [*BODIES, *FIELDS, *ITEMS, *FORMS]
