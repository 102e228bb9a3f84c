"""Directories of TIFF files: tags and their values, read from classic and Big TIFF, written as classic TIFF."""

import struct
from collections.abc import Mapping

from image_file import MAX_PARTS, too_many_parts, truncated

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_SHORT, _LONG, _RATIONAL, _UNDEFINED = 3, 4, 5, 7
_RATIONALS = {529, 532}  # YCbCrCoefficients, ReferenceBlackWhite


class Directory:
    """One directory of a file: what its tags hold, read when it is asked for."""

    def __init__(self, data: bytes, offset: int | None = None) -> None:
        """Find the tags of the directory at `offset`, by default the first one. Raises InvalidImage."""
        self.order = "<" if data[:2] == b"II" else ">"
        self._data = data
        self._is_big = 43 in data[2:4]
        count, entry, start, inline = ("Q", "HHQ", 8, 8) if self._is_big else ("H", "HHI", 4, 4)
        if offset is None:
            offset = self._unpack("Q" if self._is_big else "I", start)[0]
        (entries,) = self._unpack(count, offset)
        if entries > MAX_PARTS:
            raise too_many_parts("TIFF", "tags")
        self._entries: dict[int, tuple[int, int, int]] = {}
        position = offset + struct.calcsize("=" + count)
        for _ in range(entries):
            tag, kind, values = self._unpack(entry, position)
            position += struct.calcsize("=" + entry)
            self._entries.setdefault(tag, (kind, values, position))
            position += inline
        self._inline = inline

    def __contains__(self, tag: int) -> bool:
        """Whether there is such a tag."""
        return tag in self._entries

    def integers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Give the whole numbers that the tag holds; the default where it is missing or holds no such thing."""
        kind, count, _ = self._entries.get(tag, (0, 0, 0))
        if kind not in _INTEGERS or not count:
            return default
        if count > MAX_PARTS:
            raise too_many_parts("TIFF", f"values of tag {tag}")
        return struct.unpack(f"{self.order}{count}{_INTEGERS[kind]}", self.raw(tag))

    def integer(self, tag: int, default: int) -> int:
        """Give the tag's first number."""
        return self.integers(tag, (default,))[0]

    def raw(self, tag: int) -> bytes:
        """Give the bytes of the tag's values."""
        kind, count, position = self._entries[tag]
        length = _SIZES.get(kind, 1) * count
        if length > self._inline:
            (position,) = self._unpack("Q" if self._is_big else "I", position)
        value = self._data[position : position + length]
        if len(value) < length:
            raise truncated("TIFF", f"it ends before the values of tag {tag}")
        return value

    def _unpack(self, fields: str, position: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self.order + fields, self._data, position)
        except struct.error as error:
            raise truncated("TIFF", "it ends before or in its directory") from error


def with_directory(data: bytes, order: str, tags: Mapping[int, tuple[int, ...] | bytes]) -> bytes:
    """Write a classic TIFF of the same pixels whose one directory, at the end, has these tags.

    `tags` maps a tag to its whole numbers, or to bytes: rationals for the tags that are made of them, else as they are.
    """
    data += bytes(len(data) % 2)
    entries, values = b"", b""
    start = len(data) + 2 + 12 * len(tags) + 4
    for tag, given in sorted(tags.items()):
        if isinstance(given, bytes):
            kind, value = (_RATIONAL, given) if tag in _RATIONALS else (_UNDEFINED, given)
        else:
            kind = _SHORT if max(given) < 2**16 else _LONG
            value = struct.pack(f"{order}{len(given)}{_INTEGERS[kind]}", *given)
        entries += struct.pack(order + "HHI", tag, kind, len(value) // _SIZES[kind])
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", start + len(values))
            values += value + bytes(len(value) % 2)
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, len(data))
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4)
    return b"".join((header, memoryview(data)[8:], directory, values))
