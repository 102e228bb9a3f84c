"""What a string that stands where a text may stand looks like, where that is not words.

CLIP embeds any characters, so an image's base64 in a text's place would give a vector that means nothing, in silence.
Only a string that is such a thing as a whole looks like it: a sentence that holds a URL is a sentence.
"""

import binascii
import re
from urllib.parse import unquote

import orjson
import pybase64

from tritonclip_server.gateway.content.data_urls import BEFORE, data_url
from tritonclip_server.gateway.content.image_signatures import is_file, looks_like_image

_SEEN_CHARACTERS = 1024  # the beginning tells; a whole image need not be looked at
_QUOTES = (("b'", "'"), ('b"', '"'), ("'", "'"), ('"', '"'), ("`", "`"), ("<", ">"), ("url(", ")"))
_IMAGE_NAME = r"\.(?:jpe?g|png|gif|webp|avif|hei[cf]|bmp|tiff?)(?:[?#]\S*)?"
_URLS = tuple(
    re.compile(pattern, re.IGNORECASE | re.ASCII)
    for pattern in (
        r"[a-z][a-z0-9+.-]+(?::|%3a)(?://|\\\\|%2f%2f)\S+",  # percent-encoded too, and with slashes of Windows
        r"(?:https?:[/\\]|blob:|file:|cid:)\S+",  # browsers take one slash for two
        rf"https?://.*{_IMAGE_NAME}",  # with blanks, which its name has
        rf"(?://)?(?:[\w-]+\.)+[a-z]{{2,}}(?::\d+)?/\S*{_IMAGE_NAME}",  # with no scheme
        r"(?!.*data:)(?:!\[[^\]]*\]\([^)]*\)|<img\s[^>]*>)",  # as Markdown and HTML show an image
    )
)
_RUN = re.compile(r"[A-Za-z0-9+/_-]{24,}")
_HEXADECIMAL = re.compile(r"(?:0x|\\x)?((?:[0-9a-f]{2}){16,})", re.IGNORECASE)  # as databases and debuggers show bytes
_DECIMALS = re.compile(r"[\[(]?((?:[0-9]{1,3},\s*){16})")  # as JavaScript shows bytes, and Python a list of them
# What programs print of an object in place of its bytes: of Pillow's images, of files, of arrays, and of what is no
# text to JavaScript.
_PRINTED = re.compile(
    r"<(?:PIL\.\S+ image|_io\.\w+|memory at 0x|FileStorage:).*>|\[object \w+\]"
    r"|(?:(?:array|tensor)\()?\[\[+\s*-?[0-9].*",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u00([0-9a-fA-F]{2})|([nrt0]))")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
_ITEM_FIELDS = frozenset({"type", "text", "image", "image_url"})
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}=*")
_FEWEST_GROUPS = 4  # of one length, shorter than words may be: no sentence has such
_STANDARD = str.maketrans("-_", "+/")
_GROUP_CHARACTERS = 16
_CUT_ESCAPE = re.compile("%.?$")
_RAW_CHARACTERS = 32
_READ_ANYWAY = ("PNG\r\n", "PNG\n\x1a", "JFIF\0", "Exif\0")


def is_url(text: str) -> bool:
    """Whether a string is a URL as a whole, of any scheme but "data", or markup that shows what is there."""
    start = re.sub(r"[\t\r\n]", "", text[:_SEEN_CHARACTERS].strip(BEFORE))
    bare = _unquoted(start, text)
    return any(pattern.fullmatch(bare) or pattern.fullmatch(start) for pattern in _URLS)


def disguised_image(text: str) -> str | None:
    """What a string looks like that has an image inside, in words for an error; None for any other string."""
    start = text[:_SEEN_CHARACTERS].strip()
    bare = _unquoted(start, text)
    if bare is not start and data_url(bare):
        return "a data URL in quotes"
    if is_image_in_base64(bare):
        return "the base64 of an image"
    if (compact := _base64_of(bare)) and is_file(_decoded(compact)):
        return "the base64 of a file"
    if any(is_image_in_base64(run) for run in _RUN.findall(unquote(unquote(start)) if "%" in start else start)):
        return "the base64 or data URL of an image, with something around it"
    if (digits := _HEXADECIMAL.match(bare)) and not digits[1].isdigit() and looks_like_image(bytes.fromhex(digits[1])):
        return "the bytes of an image in hexadecimal"
    if (decimals := _DECIMALS.match(bare)) and looks_like_image(_bytes_of(decimals[1])):
        return "the bytes of an image in decimals"
    if start.startswith("<") and text.rstrip().endswith(("</svg>", "/>")) and "<svg" in start.lower():
        return "an SVG drawing"
    if _PRINTED.fullmatch(start):
        return "an object as a program prints it"
    if _is_image_as_text(text[:_RAW_CHARACTERS]) or _is_image_as_text(_unescaped(bare[: 4 * _RAW_CHARACTERS])):
        return "the bytes of an image, read as text"
    return None


def holds_json_items(text: str, longest: int) -> bool:
    """Whether a string of at most so many characters holds, as JSON, an array of strings or objects, or an item."""
    text = text if len(text) > longest else text.strip()
    if len(text) > longest or text[:1] + text[-1:] not in ("[]", "{}"):
        return False
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    if isinstance(found, dict):
        return bool(found) and found.keys() <= _ITEM_FIELDS
    return bool(found) and all(isinstance(item, str | dict) for item in found)


def _unquoted(start: str, text: str) -> str:
    """The beginning of a text without the quotes around the whole, where there are any."""
    end = text[-16:].rstrip()
    for opening, closing in _QUOTES:
        if start.startswith(opening) and end.endswith(closing) and len(start) > len(opening):
            return start[len(opening) :].removesuffix(closing)
    return start


def is_image_in_base64(text: str) -> bool:
    """Whether a string begins with nothing but base64, and that with the first bytes of an image.

    It may come in lines or groups, which are longer than words, and be encoded twice.
    """
    compact = _base64_of(text)
    if not compact:
        return False
    data = _decoded(compact)
    if looks_like_image(data):
        return True
    again = data.decode("ascii", "ignore") if data.isascii() else ""
    return bool(data_url(again)) or is_image_in_base64(again)


def _base64_of(text: str) -> str:
    """The beginning of a string in one line of the standard alphabet; "" where it is not base64 as a whole."""
    start = text[:_SEEN_CHARACTERS]
    if "%" in start:
        start = unquote(_CUT_ESCAPE.sub("", start))
    groups = start.split()
    compact = "".join(groups)
    are_words = len(compact) < _GROUP_CHARACTERS * len(groups)
    if are_words and len(groups) > _FEWEST_GROUPS:
        are_words = len(set(map(len, groups[:-1]))) > 1
    if are_words or not _BASE64.fullmatch(compact):
        return ""
    return compact.rstrip("=").translate(_STANDARD)


def _decoded(compact: str) -> bytes:
    try:
        return pybase64.b64decode(compact[: len(compact) // 4 * 4])
    except binascii.Error:
        return b""


def _bytes_of(decimals: str) -> bytes:
    numbers = [int(number) for number in decimals.split(",") if number.strip()]
    return bytes(numbers) if max(numbers) < 256 else b""


def _unescaped(text: str) -> str:
    """A text with the escapes in which programs show bytes resolved."""
    if "\\" not in text:
        return ""
    return _ESCAPE.sub(lambda m: _ESCAPED[m[3]] if m[3] else chr(int(m[1] or m[2], 16)), text)


def _is_image_as_text(start: str) -> bool:
    """Whether a text begins as the bytes of an image do when a program reads them as characters.

    Control characters tell: the signatures of some formats are words.
    """
    if not any(character < " " and not character.isspace() for character in start):
        return False
    if any(word in start for word in _READ_ANYWAY):  # where the program replaced what it could not read, or left it out
        return True
    return any(looks_like_image(start.encode(encoding, "replace")) for encoding in ("latin-1", "cp1252"))
