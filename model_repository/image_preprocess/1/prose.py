"""What text is that came for an image file: a drawing in some language, a page, or the place of an image."""

import base64
import binascii
import codecs
import re

from image_file import InvalidImage

_LOOKED_AT = 1 << 16  # a drawing may begin with a long comment
_SHOWN = 32
_SURE = 64  # so many bytes with no control character are text, in whatever encoding
_CONTROL = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")
_CONVERT = "which is not read here: convert it to JPEG or PNG"
_KINDS = (
    (re.compile(r"(?:<[!?][^>]*>\s*)*?<(?:!doctype\s+html|html|head|body)[\s>]", re.I), "an HTML page"),
    (re.compile(r"<(?:.*?<)?(?:\w+:)?svg[\s/>]", re.I | re.S), f"SVG, {_CONVERT}"),
    (re.compile(r"<\?xml|<!doctype|<!--|<[a-z][\w:.-]*[\s/>]", re.I), "XML"),
    (re.compile(r"/\* XPM"), f"XPM, {_CONVERT}"),
    (re.compile(r"#define\s+\w+_width\s"), f"XBM, {_CONVERT}"),
    (re.compile(r'[\[{]\s*(?:["\[{\]}\d-]|true|false|null)'), "JSON"),
    (re.compile(r"data:[^,]{0,200},", re.I), "a data URL: send what its part after the comma holds, decoded"),
    (re.compile(r"[a-z][a-z0-9+.-]{1,15}://\S", re.I), "a URL: send what is there"),
    (re.compile(r"version https://git-lfs"), "a pointer of Git LFS: get the file with git lfs pull"),
)


def name_of_text(data: bytes) -> InvalidImage | None:
    """Say what the text is, if it is text."""
    text = _decoded(data[:_LOOKED_AT])
    if text is None:
        return None
    text = text.lstrip("\ufeff\0 \t\r\n\f\v")
    kind = next((f" ({name})" for pattern, name in _KINDS if pattern.match(text)), "")
    return InvalidImage(f"text, not the bytes of an image file{kind}: it starts with {text[:_SHOWN]!r}")


def from_base64(data: bytes) -> bytes:
    """Give the beginning of what the data hold as base64; nothing where they are something else."""
    text = b"".join(data[:1024].split()).translate(bytes.maketrans(b"-_", b"+/"))
    length = min(len(text) // 4 * 4, 256)
    if length < 16:
        return b""
    try:
        return base64.b64decode(text[:length], validate=True)
    except binascii.Error:
        return b""


def _decoded(data: bytes) -> str | None:
    """Decode text of any encoding, roughly where it is an old one; None for what is no text."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _if_text(data.decode("utf-16", "ignore"))
    for start, encoding in ((0, "utf-16-be"), (1, "utf-16-le")):
        zeros = data[start:512:2]
        if len(zeros) > 3 and not zeros.strip(b"\0"):
            return _if_text(data.decode(encoding, "ignore"))
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data)  # the last character may be cut off
    except UnicodeDecodeError:
        return _if_text(data.decode("latin-1")) if len(data) >= _SURE else None
    return _if_text(text)


def _if_text(text: str) -> str | None:
    return text if text.strip() and not _CONTROL.search(text[:4096]) else None
