"""JSON as it arrives, to Python: bounded before it is parsed, and lenient in what does no harm.

    bytes ─count the values outside strings─> orjson, in pieces where it is large ─> document
                                                └─(half of a surrogate pair)─> the standard library

A parser makes an object of every value, twenty times the size of a "0,", and keeps the whole process waiting meanwhile.
So values are counted first, which costs no memory. No request needs many: texts and images are one value each. Numbers
in a list are another matter, for texts may come as token ids. They cost less, 40 bytes each, so more are let through.
"""

import contextlib
import json
from typing import Any, NoReturn

import orjson

from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.parsing import sliced_json

MAX_VALUES = 100_000
MAX_PARTS = 2 * MAX_VALUES  # of which a value is two: a string, and the sign that parts it from the next
IN_PIECES = 2**18  # bytes: below it, orjson takes a millisecond or two
_ESCAPES_OF_A_PART = 20  # these take a parser as long: base64 has one in some thirty characters, if any
_NUMBERS_OF_A_PART = 3  # in a list: 600,000 pass, and take 29 MiB; OpenAI takes 300,000 tokens
_DIGITS = b"0123456789"
_ENDS = b"]}"  # what is between two numbers is a list, then
_ALIKE = bytes.maketrans(_DIGITS, b"0" * 10)
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(b",:[{" + _ENDS + _DIGITS))
_SLICE = 2**18  # bytes looked at in one step, in which nothing else of this process runs
_SURROGATES = (b"\\ud", b"\\uD")  # how they begin, and few others
_OTHER_ENCODINGS = (
    (b"\xff\xfe\0\0", "UTF-32: send UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32: send UTF-8"),
    (b"\xff\xfe", "UTF-16: send UTF-8"),
    (b"\xfe\xff", "UTF-16: send UTF-8"),
    (b"\x1f\x8b", "compressed, and Content-Encoding does not say so"),
)


def read_json(body: bytes) -> Any:
    """The document of a JSON body; ApiError where it is none, or has too many values.

    A string with half of a surrogate pair, which JSON can spell and Unicode has not, is kept as it is: it is the fault
    of one item, not of the others.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    if len(body) > MAX_PARTS and parts_of(body, MAX_PARTS) > MAX_PARTS:  # a part has a byte at least
        raise too_many_values("the body has")
    try:
        if len(body) >= IN_PIECES:
            with contextlib.suppress(orjson.JSONDecodeError):  # the whole says where the error is
                return sliced_json.loads(body)
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if any(escape in body for escape in _SURROGATES):
            return _read_leniently(body)
        raise _invalid(_fault_of_encoding(body) or str(error)) from None


def too_many_values(subject: str, param: str | None = None) -> ApiError:
    """The error of what has more values than any request needs."""
    message = (
        f"{subject} more than {MAX_VALUES} values, {2 * _NUMBERS_OF_A_PART} times as many token ids, or as much in "
        "escapes: texts and images are one value each"
    )
    return ApiError("too_many_items", message, param=param)


def parts_of(body: bytes, most: int) -> int:
    """How many strings a JSON body has, and signs of structure outside them; counted until there are too many.

    Of commas between two numbers, and of escapes, so many count as one.
    """
    structure = numbers = escapes = quotes = at = 0

    def parts() -> int:
        return structure + numbers // _NUMBERS_OF_A_PART + quotes // 2 + escapes // _ESCAPES_OF_A_PART

    while at < len(body) and parts() <= most:
        piece = body[at : at + _SLICE]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # an escape would be cut in two
            piece = body[at : at + _SLICE + 1]
        at += len(piece)
        escapes += piece.count(b"\\")
        between = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(between[quotes % 2 :: 2])
        signs = outside.translate(_ALIKE, _ALL_BUT_STRUCTURE)
        between_numbers = signs.replace(b",0", b";0").count(b"0;")
        numbers += between_numbers
        structure += len(signs.translate(None, b"0" + _ENDS)) - between_numbers
        quotes += len(between) - 1
    return parts()


def _read_leniently(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _invalid(str(error)) from None
    except RecursionError:
        raise _invalid("too deeply nested") from None
    except ValueError:
        reason = _fault_of_encoding(body) or "a number that JSON does not have, or of too many digits"
        raise _invalid(reason) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _fault_of_encoding(body: bytes) -> str | None:
    """What is wrong with a body that is not UTF-8; None where it is."""
    for start, encoding in _OTHER_ENCODINGS:
        if body.startswith(start):
            return f"it is {encoding}"
    if b"\0" in body[:4]:  # the first characters of JSON are ASCII
        return "it is UTF-16 or UTF-32: send UTF-8"
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 at byte {error.start + 1}, which is 0x{body[error.start]:02x}"
    return None


def _invalid(reason: str) -> ApiError:
    return ApiError("invalid_json", f"the body is no valid JSON: {reason}")
