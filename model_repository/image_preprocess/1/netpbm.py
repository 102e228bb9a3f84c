"""PBM, PGM and PPM (netpbm's P1 to P6), written anew without comments and with all of the values' range in use."""

import re

import numpy as np
from costs import RATES
from image_file import MAX_PARTS, ImageFile, too_many_parts, truncated, unreadable, unsupported

_LONGEST_HEADER = 1 << 16
_GAP = re.compile(rb"(?:[ \t\n\v\f\r]|#[^\r\n]*[\r\n])*")
_NUMBER = re.compile(rb"[0-9]{1,10}(?=[ \t\n\v\f\r#])")
_COMMENT = re.compile(rb"#[^\r\n]*")
_PLAIN, _BITS, _GREY, _COLOUR = b"123", b"14", b"25", b"36"


def read(data: bytes) -> ImageFile:
    """Read the header. Raises InvalidImage."""
    letter = data[1:2]
    if letter not in b"123456":
        raise unsupported("PPM", {b"7": "PAM", b"F": "floating-point"}.get(letter.upper(), "not one of P1 to P6"))
    position, numbers = 2, []
    for _ in range(2 if letter in _BITS else 3):
        gap = _GAP.match(data, position, _LONGEST_HEADER)
        number = _NUMBER.match(data, gap.end(), _LONGEST_HEADER) if gap else None
        if number is None:
            raise unreadable("PPM")
        numbers.append(int(number[0]))
        position = number.end()
    width, height, most = numbers if len(numbers) > 2 else (*numbers, 1)
    if not width or not height or not 0 < most < 65536:
        raise unreadable("PPM")
    samples = width * height * (3 if letter in _COLOUR else 1)
    cost = RATES["PPM"].of(width * height, len(data), rows=height)
    if letter in _PLAIN:
        kind, body = "PPM in plain text", _without_comments(data[position:])
        cost += RATES["plain PPM sample"].of(samples, len(data))
    else:
        kind, body = "PPM", data[position + 1 :]
        if letter in _BITS:
            samples = -(-width // 8) * height
        if len(body) < samples * (2 if most > 255 else 1):
            raise truncated("PPM", "samples are missing")
        if letter not in _BITS:
            body, numbers[2] = _scaled(body, samples, letter, most)
    header = b"P%b\n%b\n" % (letter, b" ".join(b"%d" % number for number in numbers))
    return ImageFile(format="PPM", kind=kind, width=width, height=height, data=header + body, cost=cost)


def _without_comments(body: bytes) -> bytes:
    if body.count(b"#") > MAX_PARTS:
        raise too_many_parts("PPM", "comments")
    return _COMMENT.sub(b"", body)


def _scaled(body: bytes, samples: int, letter: bytes, most: int) -> tuple[bytes, int]:
    """Give samples that fill 8 bits, or 16 where grey has more; what Pillow does in Python, a sample at a time."""
    if most == 255 or (letter in _GREY and most == 65535):
        return body, most
    full = 65535 if letter in _GREY and most > 255 else 255
    table = np.minimum(np.rint(np.arange(65536 if most > 255 else 256) / most * full), full)
    values = np.frombuffer(body, np.dtype(">u2" if most > 255 else "u1"), samples)
    return table.astype(">u2" if full > 255 else "u1")[values].tobytes(), full
