"""Large JSON in pieces: the same document as in one, or an error as in one, and no piece that takes long."""

import json
import random
from typing import Any

import orjson
import pytest

from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.parsing import sliced_json
from tritonclip_server.gateway.parsing.json_body import IN_PIECES, read_json
from tritonclip_server.gateway.parsing.sliced_json import LONG, SLICE

SOURCE = random.Random(0)


def some_text() -> str:
    return "".join(SOURCE.choices('ab"\\\n/é😀\x01,:[]{}0', k=SOURCE.choice([0, 1, 5, LONG, 3 * LONG])))


def some_value(depth: int = 0) -> Any:
    match SOURCE.randrange(4 if depth > 3 else 6):
        case 0 | 1:
            return some_text()
        case 2:
            return [SOURCE.randrange(100_000) for _ in range(SOURCE.choice([0, 1, 30, 300]))]
        case 3:
            return SOURCE.choice([None, True, False, 1.5, -3, 10**18])
        case 4:
            return [some_value(depth + 1) for _ in range(SOURCE.randrange(5))]
    return {SOURCE.choice(["k", "k" * 2 * LONG]) + str(n): some_value(depth + 1) for n in range(SOURCE.randrange(5))}


def spoilt(body: bytes) -> bytes:
    """A body with a few bytes changed, added or taken away."""
    changed = bytearray(body)
    for _ in range(SOURCE.randrange(1, 4)):
        at = SOURCE.randrange(len(changed))
        changed[at : at + SOURCE.randrange(2)] = SOURCE.choice(
            [b"", b'"', b"\\", b",", b"[", b"]", b":", b"0", b"\xff"]
        )
    return bytes(changed)


def parsed(parse: Any, body: bytes) -> Any:
    try:
        return parse(body)
    except orjson.JSONDecodeError:
        return "no JSON"


def test_a_document_is_the_same_in_pieces() -> None:
    invalid = 0
    for number in range(600):
        body = json.dumps(some_value(), ensure_ascii=bool(number % 2), indent=(None, 1)[number % 3 == 0]).encode()
        body = spoilt(body) if number % 4 == 0 and body else body
        expected = parsed(orjson.loads, body)
        invalid += expected == "no JSON"
        assert parsed(sliced_json.loads, body) == expected, body[:200]
    assert 50 < invalid < 200


@pytest.mark.parametrize(
    "body",
    [
        b"{[" + b"1," * 99 + b"1]: 2}",  # a list in the place of a name
        b'["' + b"a" * 2000 + b'" "' + b"b" * 2000 + b'"]',
        b'["' + b"a" * 2000 + b"\n" + b'"]',
        b'["' + b"a" * 2000,
        b'"' + b"a" * 2000,
        b'"' + b"a" * 2000 + b'\\"',
        b"[" + b"1," * 99 + b"]",
        b"[0" + b"1," * 99 + b"1]",
    ],
)
def test_what_is_no_json_is_none_in_pieces(body: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(body)
    with pytest.raises(orjson.JSONDecodeError):
        sliced_json.loads(body)


@pytest.mark.parametrize(
    ("document", "largest"),
    [
        ({"input": ["A" * 300_000] * 20, "model": "m"}, 300_002),
        ({"input": ["A" * 12 * SLICE]}, SLICE + 2),
        ({"input": [list(range(1000, 1590))] * 600}, 600 * 30),
        ({"input": ["é" * 2000 for _ in range(2048)], "encoding_format": "base64"}, 2048 * 30),
    ],
)
def test_the_interpreter_is_held_for_no_more_than_a_piece(
    monkeypatch: pytest.MonkeyPatch, document: dict[str, Any], largest: int
) -> None:
    body = orjson.dumps(document)
    assert len(body) > IN_PIECES
    sizes: list[int] = []
    whole = orjson.loads

    def noted(piece: bytes) -> Any:
        sizes.append(len(piece))
        return whole(piece)

    monkeypatch.setattr(orjson, "loads", noted)
    assert read_json(body) == document
    assert max(sizes) <= largest < len(body) / 10


@pytest.mark.parametrize("part", ["A", "é", "😀", "\\n", "\\u00e9", "\\ud83d\\ude00", "\\/", "\\\\", '\\"'])
def test_a_string_is_the_same_wherever_it_is_cut(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    body = f'["{part * 2 * LONG}", "{part * 2 * LONG}'.encode()
    for size in (1, 2, 3, 5, 7, 1000, 1001):
        monkeypatch.setattr(sliced_json, "SLICE", size)
        assert sliced_json.loads(body + b'"]') == orjson.loads(body + b'"]')
        with pytest.raises(orjson.JSONDecodeError):
            sliced_json.loads(body)


def test_an_error_in_a_large_body_is_told_by_its_place() -> None:
    body = b'{"input": ["' + b"a" * IN_PIECES + b'" 1]}'
    with pytest.raises(ApiError, match=f"column {len(body) - 2}"):
        read_json(body)
