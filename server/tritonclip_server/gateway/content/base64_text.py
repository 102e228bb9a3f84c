"""base64 as people send it, to bytes: or what is wrong with it, and where.

Padded or not, of either alphabet, in lines, indented, percent-encoded: all of these say which bytes are meant. What
does not is an error, for an image must not become another one.
"""

import binascii
from urllib.parse import unquote_to_bytes

import pybase64


class BadBase64(ValueError):
    """The text is no base64; the message says why, for its sender."""


_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_LINE_BREAKS = b"\n\r\t\v\f"
_ESCAPED = tuple(
    (escape.encode(), character.encode())
    for character in "%+/=-_ \n\r"
    for escape in (f"%{ord(character):02X}", f"%{ord(character):02x}")
)
_SLICE = 2**18  # bytes
_SHOWN = 12  # characters on each side of what is wrong


def decode(text: str) -> bytes:
    """The bytes that a base64 text stands for; BadBase64 where it is none."""
    try:
        return pybase64.b64decode(text, validate=True)  # nearly always it is as it should be
    except (binascii.Error, ValueError):
        pass
    try:
        data = text.encode("ascii")
    except UnicodeEncodeError as error:
        raise _bad_at(text, error.start) from None
    for _ in range(2):  # what was encoded twice is decoded twice
        if 0 < 3 * data.count(b"%") <= len(data):
            data = unquote_to_bytes(data) if len(data) < _SLICE else _unescaped(data)
    data = data.translate(_STANDARD).strip()
    if strange := data.rstrip(b"= " + _LINE_BREAKS).translate(None, _ALPHABET + b" " + _LINE_BREAKS):
        raise _bad_at(text, max(0, text.find(chr(strange[0]))))  # in an escape, it is not in the text itself
    data = _in_one_line(data).rstrip(b"=")
    if len(data) % 4 == 1:
        raise BadBase64(f"base64 that is cut off: {len(data)} characters are no whole number of bytes")
    return pybase64.b64decode(data + b"=" * (-len(data) % 4))


def _unescaped(data: bytes) -> bytes:
    """Without the percent-encoding that base64 needs; the standard library's, of any character, is for short ones.

    In slices: each step keeps the whole process waiting.
    """
    pieces, at = [], 0
    while at < len(data):
        end = at + _SLICE
        cut = data.find(b"%", end - 2, end)  # an escape is not cut in two
        piece = data[at : cut if cut > 0 else end]
        at += len(piece)
        for escape, character in _ESCAPED:
            piece = piece.replace(escape, character)
        pieces.append(piece)
    return b"".join(pieces)


def _in_one_line(data: bytes) -> bytes:
    """With no white space within."""
    unbroken = data.translate(None, _LINE_BREAKS)
    if len(unbroken) < len(data):  # then blanks are indentation
        return unbroken.replace(b" ", b"")
    return data.replace(b" ", b"+" if _blanks_were_pluses(data) else b"")


def _blanks_were_pluses(line: bytes) -> bool:
    """Whether the blanks in one line of base64 were "+" before some program took it for a form's value.

    They are layout where there is a "+" as well, or where they part it into equal groups. Else the length decides, a
    multiple of four; where it does not, nobody can tell, and a wrong guess would be another image.
    """
    blanks = line.count(b" ")
    if not blanks or b"+" in line:
        return False
    group = line.index(b" ")
    if blanks > 1 and line[group :: group + 1].count(b" ") == blanks:
        return False
    kept, removed = len(line) % 4 == 0, (len(line) - blanks) % 4 == 0
    if kept == removed:
        raise BadBase64('base64 with blanks where "+" may have been: percent-encode it, or send it without blanks')
    return kept


def _bad_at(text: str, place: int) -> BadBase64:
    shown = text[max(0, place - _SHOWN) : place + _SHOWN]
    return BadBase64(f"neither a URL nor base64: {text[place]!a} at character {place + 1}, in {shown!a}")
