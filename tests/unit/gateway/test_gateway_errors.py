"""What callers see of a model server's own words: what is wrong with an item, and nothing of where the server lives."""

import grpc
import pytest

from tests.bad_inputs import BAD_INPUTS
from tests.images import RED_URL
from tests.unit.gateway.conftest import gateway_over, refuse
from tritonclip import InputError
from tritonclip.protocol import refused_item, status_error
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.errors import FAILURES, MESSAGES, item_error, translate

INTERNAL = [
    "tritonserver at 10.0.0.5 in /srv/models",
    "Failed to process the request(s) for model instance 'text_encoder_0_0', message: The following operation failed "
    "in the TorchScript interpreter.\nTraceback of TorchScript, serialized code (most recent call last):\n  File "
    '"code/__torch__/export/encoders.py", line 12, in forward\nRuntimeError: index out of range in self',
    "Request for unknown model: 'embed_text' is not found",
    "[request id: 7] inference request batch-size must be <= 64 for 'embed_image'",
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:8001: Connection refused",
    "in ensemble 'embed_image', Failed to open the shared memory region '/tritonclip-4711'",
    "unexpected shape for input 'pixels' for model 'image_encoder'. Expected [-1,3,256,256], got [1,3,1,1]",
]
IN_AN_ITEM = [
    "image 0: [Errno 2] No such file or directory: '/opt/tritonserver/x'",
    "image 0: cannot identify image file <_io.BytesIO object at 0x7f54a8c0e3b0>",
    "image 0: decoder at triton:8001 is away",
    "image 0: decoder at 10.1.2.3 is away",
    "image 0: decoder at [fe80::1] is away",
    "image 0: failed in /models/image_preprocess/1/model.py",
    "image 0: failed in decode.py, line 40",
    "image 0: failed in ~/models",
    "image 0: failed in C:\\models",
    "image 0: see file:///etc/passwd",
    "text 3: Traceback (most recent call last)",
    "text 3: one line\nand another",
    "text 3: \x1b[2J",
    "image 0: " + "very long " * 100,
    "image 0: ",
    "audio 0: damaged",
    "pre image 0: damaged",
]


@pytest.mark.parametrize("words", INTERNAL + IN_AN_ITEM)
def test_internal_words_are_not_passed_on_by_any_status(words: str) -> None:
    for code in set(grpc.StatusCode) - {grpc.StatusCode.OK}:
        error = status_error(code.name, words, "embed_image")
        answer = translate(error)
        assert answer.reason == MESSAGES[answer.code]
        assert answer.__cause__ is error  # for the log
        for noun in ("image", "text"):
            refused = item_error(refused_item(error, noun=noun, index=0), "input[0]")
            assert refused.reason == f"the model server cannot use this {noun}"
            assert refused.param == "input[0]"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("image 0: truncated JPEG: 12 bytes missing", "truncated JPEG: 12 bytes missing"),
        ("in ensemble 'embed_image', image 3: empty: no bytes", "empty: no bytes"),
        ("[request id: a-1] in ensemble 'x', text 0: not UTF-8 at byte 7 (invalid start byte)", "not UTF-8 at byte 7 "),
        ("image 0: 100000001 pixels, more than the limit of 100000000", "100000001 pixels, more than the limit of 1"),
        ("image 0: unknown image format: it starts with 3c 3f 78 6d", "unknown image format: it starts with 3c 3f"),
        ("image 0: text, not an image: it starts with '<a href=\"http://x/y\">'", "text, not an image: it starts with"),
    ],
)
def test_what_is_wrong_with_an_item_is(words: str, shown: str) -> None:
    error = status_error("INVALID_ARGUMENT", words, "embed_image")
    assert item_error(refused_item(error, noun="image", index=0), "image").reason.startswith(shown)
    assert shown in translate(error).reason
    assert "ensemble" not in translate(error).reason
    assert "request id" not in translate(error).reason


def test_the_clients_own_words_about_an_item_are_passed_on() -> None:
    assert (
        item_error(InputError("expected images, got int", noun="image"), "image").reason == "expected images, got int"
    )


def test_every_reason_of_the_real_preprocessing_is_passed_on() -> None:
    """Over the table of bad requests: none of them gets the general sentence."""
    checked = 0
    with gateway_over(FakeServer(refuse=refuse)) as gateway:
        for bad in BAD_INPUTS:
            answer = gateway.http.post(bad.path.format(model="fake"), **bad.request())
            checked += bad.code == "invalid_image"
            assert "the model server cannot use" not in answer.text, bad.name
    assert checked > 5


def test_a_refusal_reaches_the_caller_without_the_servers_words() -> None:
    words = "decoder of /srv/models crashed at 10.0.0.5"
    with gateway_over(FakeServer(refuse=lambda noun, _item: words if noun == "image" else None)) as gateway:
        error = gateway.refused("/v1/embeddings", 400, input=RED_URL)
        assert error["message"] == "input: the model server cannot use this image"
        partial = gateway.post("/v1/embeddings", input=["a", RED_URL], partial=True)
        assert partial["errors"][0]["message"] == "input[1]: the model server cannot use this image"


def test_there_is_a_sentence_for_every_failure() -> None:
    assert {code for _, code in FAILURES} == set(MESSAGES)
