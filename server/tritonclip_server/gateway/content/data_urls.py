"""Data URLs, by RFC 2397 and as browsers read them: `data:[type/subtype][;parameter=value…][;base64],payload`.

The scheme, the type and "base64" in any case; blanks around the parts; tabs and line breaks anywhere; white space and
control characters before it. What the type says is not heeded: bytes decide what an image is. A beginning that can only
be that of a data URL, but leads to no payload, is one that is broken, not a text.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

HEAD_CHARACTERS = 1024  # in which the comma must come
_ESCAPED_COMMA = re.compile("%2c", re.IGNORECASE)  # where the whole URL is percent-encoded
# What may stand before a URL without being part of it: control characters, blanks of all kinds, a byte order mark.
BEFORE = "".join(map(chr, range(0x21))) + "\x7f\x85\xa0\u2028\u2029\u200b\u200c\u200d\u2060\u3000\ufeff"
_IGNORED = str.maketrans("", "", "\t\n\r")
_WORD = r"[\w!#$&^.+-]+"
_TYPES = "application|audio|font|haptics|image|message|model|multipart|text|video"
_TYPE = re.compile(rf"{_WORD}/{_WORD}", re.ASCII)
_KNOWN_TYPE = re.compile(rf"(?:{_TYPES})/{_WORD}", re.ASCII)
_BROKEN = re.compile(rf"(?:(?:{_TYPES})/{_WORD})?(?:;\S*)?", re.ASCII)


@dataclass(frozen=True)
class DataUrl:
    """The parts of a data URL."""

    media_type: str  # in lower case; "" where it is left out
    is_base64: bool
    text: str
    start: int | None  # of the payload in the text; None where there is none

    @property
    def payload(self) -> str | None:
        """What stands behind the comma: a copy, and maybe of megabytes."""
        return None if self.start is None else self.text[self.start :]


def data_url(text: str) -> DataUrl | None:
    """The data URL that a string is, and None for any other string.

    "data:" begins sentences as well ("data: the new oil, they say"). So a blank behind it is only allowed before a type
    that is registered, and a head without a type must be empty, or hold parameters alone.
    """
    begin = text[:HEAD_CHARACTERS]
    if begin.isspace():
        text = text.lstrip()
        begin = text[:HEAD_CHARACTERS]
    if begin.lstrip(BEFORE)[:1] not in ("d", "D"):
        return None
    comma, start = begin.find(","), 0
    if comma >= 0:
        start = comma + 1
    elif escaped := _ESCAPED_COMMA.search(begin):
        comma, start = escaped.span()
    head = (begin[:comma] if start else begin).lstrip(BEFORE).translate(_IGNORED)
    scheme, colon, rest = unquote(head).lower().partition(":")
    if scheme.rstrip() != "data" or not colon:
        return None
    rest = rest.removeprefix("//")  # as PHP writes it
    if not start:
        return DataUrl("", False, text, None) if rest and _BROKEN.fullmatch(rest) else None
    parsed = _parse(rest)
    return None if parsed is None else DataUrl(*parsed, text, start)


def _parse(head: str) -> tuple[str, bool] | None:
    """Type and encoding of what stands between the scheme and the comma; None where it is part of a sentence."""
    media_type, *parameters = (part.strip() for part in head.split(";"))
    if media_type == "base64":
        media_type, parameters = "", ["base64"]
    is_base64 = "base64" in parameters
    spaced = head[:1].isspace()
    if is_base64 or (_KNOWN_TYPE if spaced else _TYPE).fullmatch(media_type):
        return media_type, is_base64
    if not media_type and not spaced and all("=" in parameter for parameter in parameters):
        return media_type, is_base64
    return None
