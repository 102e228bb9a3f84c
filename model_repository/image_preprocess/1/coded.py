"""What AV1 and HEVC data say of their size and of how many images they hold.

The boxes around them say a size too, and decoders would find out only afterwards that it is another one; and of many
images in the place of one they would decode all before they show one.
"""

from collections.abc import Iterator

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # types of OBU (AV1, 6.2.2)


def av1_size(data: bytes) -> tuple[int, int, int]:
    """Give the largest width and height of AV1 frames, and how many frames there are (AV1, 5.3 to 5.5)."""
    width = height = frames = 0
    for kind, start in _units(data):
        if kind == _SEQUENCE_HEADER:
            columns, rows = _sequence_size(_Bits(data[start : start + 64]))
            width, height = max(width, columns), max(height, rows)
        frames += kind in (_FRAME_HEADER, _FRAME)
    return width, height, frames


def hevc_pictures(data: bytes, length_size: int) -> int:
    """Count the images: the slices that are the first of theirs (HEVC, 7.3.1 and 7.3.6)."""
    pictures, position = 0, 0
    while position + length_size + 3 <= len(data):
        start = position + length_size
        position = start + int.from_bytes(data[position:start])
        is_slice = data[start] >> 1 & 63 < 32
        pictures += is_slice and data[start + 2] >> 7
    return pictures


def _units(data: bytes) -> Iterator[tuple[int, int]]:
    """Give type and start of the OBUs."""
    position = 0
    while position < len(data):
        header = data[position]
        position += 2 if header & 4 else 1
        length, has_length = len(data) - position, header & 2
        if has_length:
            length = shift = 0
            while True:  # leb128
                byte = data[position]
                length |= (byte & 127) << shift
                position, shift = position + 1, shift + 7
                if byte < 128 or shift > 56:
                    break
        yield header >> 3 & 15, position
        position += length


class _Bits:
    """Numbers of any number of bits, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, bits: int) -> int:
        """Read a number. Raises IndexError at the end."""
        if bits > self._left:
            raise IndexError("beyond the end")
        self._left -= bits
        return self._value >> self._left & (1 << bits) - 1


def _sequence_size(bits: _Bits) -> tuple[int, int]:
    """Read the largest width and height from a sequence header (AV1, 5.5.1)."""
    bits.read(4)  # profile, still picture
    if bits.read(1):  # reduced header
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            zeros = 0
            while not bits.read(1):
                zeros += 1
            bits.read(zeros)
        if bits.read(1):  # decoder model
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)
