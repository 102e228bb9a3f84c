"""What a string that stands where a text may stand looks like, where that is not words.

CLIP embeds any characters, so a picture's base64 in a text's place would give a vector that means nothing, in silence.
Only a string that is such a thing as a whole looks like it: a sentence that holds a URL is a sentence.
"""

import binascii
import re
from urllib.parse import unquote

import orjson
import pybase64

from gateway.data_urls import data_url
from gateway.pictures import looks_like_image

_SEEN_CHARACTERS = 1024  # the beginning tells; a whole picture need not be looked at
_QUOTES = (("b'", "'"), ('b"', '"'), ("'", "'"), ('"', '"'), ("`", "`"), ("<", ">"), ("url(", ")"))
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://|blob:|file:|cid:)\S+", re.IGNORECASE | re.ASCII)
_INSIDE = re.compile(r"data:[^,\s]{0,100};base64,([A-Za-z0-9+/_%-]{24,})", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}=*")
_STANDARD = str.maketrans("-_", "+/")
_GROUP_CHARACTERS = 16
_CUT_ESCAPE = re.compile("%.?$")
_RAW_CHARACTERS = 32


def is_url(text: str) -> bool:
    """Whether a string is a URL as a whole, of any scheme but "data"."""
    start = text[:_SEEN_CHARACTERS].strip()
    return _URL.fullmatch(re.sub(r"[\t\r\n]", "", _unquoted(start, text))) is not None


def image_lookalike(text: str) -> str | None:
    """What a string looks like that has an image inside, in words for an error; None for any other string."""
    start = text[:_SEEN_CHARACTERS].strip()
    bare = _unquoted(start, text)
    if bare is not start and data_url(bare):
        return "a data URL in quotes"
    if is_image_in_base64(bare):
        return "the base64 of an image"
    if (inside := _INSIDE.search(start)) and is_image_in_base64(inside[1]):
        return "the data URL of an image, with something around it"
    if _is_image_as_text(text[:_RAW_CHARACTERS]):
        return "the bytes of an image, read as text"
    return None


def is_json_list(text: str, longest: int) -> bool:
    """Whether a string of at most so many characters holds a JSON array of strings or objects."""
    text = text if len(text) > longest else text.strip()
    if len(text) > longest or not (text.startswith("[") and text.endswith("]")):
        return False
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return bool(items) and all(isinstance(item, str | dict) for item in items)


def _unquoted(start: str, text: str) -> str:
    """The beginning of a text without the quotes around the whole, where there are any."""
    end = text[-16:].rstrip()
    for opening, closing in _QUOTES:
        if start.startswith(opening) and end.endswith(closing) and len(start) > len(opening):
            return start[len(opening) :].removesuffix(closing)
    return start


def is_image_in_base64(text: str) -> bool:
    """Whether a string begins with nothing but base64, and that with the first bytes of an image.

    It may come in lines or groups, which are longer than words.
    """
    start = text[:_SEEN_CHARACTERS]
    if "%" in start:
        start = unquote(_CUT_ESCAPE.sub("", start))
    groups = start.split()
    compact = "".join(groups)
    if len(compact) < _GROUP_CHARACTERS * len(groups) or not _BASE64.fullmatch(compact):
        return False
    compact = compact.rstrip("=").translate(_STANDARD)
    try:
        return looks_like_image(pybase64.b64decode(compact[: len(compact) // 4 * 4]))
    except binascii.Error:
        return False


def _is_image_as_text(start: str) -> bool:
    """Whether a text begins as the bytes of an image do when a program reads them as characters.

    Control characters tell: the signatures of some formats are words.
    """
    if not any(character < " " and not character.isspace() for character in start):
        return False
    if start.startswith("\ufffd"):  # where the program replaced what it could not read
        return "PNG\r\n" in start or "JFIF" in start or "Exif" in start
    return looks_like_image(start.encode("latin-1", "replace"))
