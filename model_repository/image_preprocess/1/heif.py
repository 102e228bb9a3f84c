"""AVIF and HEIF (ISO 23008-12): the items of a file, of which the primary one is the image.

It is coded as a whole or is a grid of tiles, each an item of its own, and may have another item for its transparency.
Items of camera data are hidden from the decoders, and so are films beside the image. The image is turned by the
container's own properties, as the standard says, never by EXIF.
"""

import struct
from dataclasses import dataclass, field

from boxes import Box, walk
from coded import av1_size, hevc_pictures
from costs import RATES
from image_file import MAX_PARTS, ImageFile, damaged, too_many_parts, truncated, unsupported

_CODED = {"AVIF": {b"av01"}, "HEIF": {b"hvc1", b"hev1"}}
_CODECS = {b"av01": "AV1", b"hvc1": "HEVC", b"hev1": "HEVC", b"avc1": "AVC", b"vvc1": "VVC", b"jpeg": "JPEG"}
_CODECS |= {b"j2k1": "JPEG 2000", b"unci": "nothing", b"iovl": "an overlay", b"iden": "another image"}
_CAMERA_DATA = {b"Exif", b"mime"}
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_MAX_TILES = 10_000
_MAX_LAYERS = 4


@dataclass
class _Items:
    """What the meta box says of the items."""

    format: str
    data: bytes
    primary: int = 0
    types: dict[int, bytes] = field(default_factory=dict)
    hidden: list[tuple[int, bytes]] = field(default_factory=list)  # what to write where in the file
    references: dict[tuple[bytes, int], tuple[int, ...]] = field(default_factory=dict)
    properties: list[Box] = field(default_factory=list)
    of_items: dict[int, list[int]] = field(default_factory=dict)
    places: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # where its data start and end
    inside: Box | None = None  # data within the meta box

    def property(self, item: int, name: bytes) -> bytes:
        """Give the item's property of this name, without its box; nothing where it has none."""
        for index in self.of_items.get(item, ()):
            if 0 < index <= len(self.properties) and self.properties[index - 1].name == name:
                box = self.properties[index - 1]
                return self.data[box.content : box.end]
        return b""


def read(data: bytes, format_name: str) -> ImageFile:
    """Read the items of an AVIF or a HEIF file. Raises InvalidImage."""
    items = _read_items(data, format_name)
    width, height = _size(items, items.primary)
    coded = _coded_pixels(items, items.primary)
    for (kind, source), to in items.references.items():
        is_beside = kind == b"auxl" and items.primary in to
        if is_beside and items.property(source, b"auxC")[4:].startswith(_ALPHA):
            coded += _coded_pixels(items, source)
    return ImageFile(
        format=format_name,
        kind=format_name,
        width=width,
        height=height,
        data=_changed(data, items.hidden),
        cost=RATES[format_name].of(max(coded, width * height), len(data)),
    )


def _read_items(data: bytes, format_name: str) -> _Items:
    items = _Items(format_name, data)
    readers = {b"iinf": _read_types, b"iref": _read_references, b"iprp": _read_properties, b"iloc": _read_places}
    for box in walk(data, 0, len(data), format_name):
        if box.name == b"moov" and data[8:12] == b"avis":
            items.hidden.append((8, b"avif"))  # the decoder would take the film's first frame
        if box.name != b"meta" or items.types:
            continue
        for inner in walk(data, box.content + 4, box.end, format_name):
            if inner.name == b"pitm":
                items.primary = _number(data, inner.content + 4, 4 if data[inner.content] else 2)
            elif inner.name == b"idat":
                items.inside = inner
            elif reader := readers.pop(inner.name, None):
                reader(items, inner)
    if items.primary not in items.types:
        raise unsupported(format_name, "no image but a film")
    return items


def _number(data: bytes, position: int, length: int) -> int:
    if position + length > len(data):
        raise IndexError("beyond the end")
    return int.from_bytes(data[position : position + length])


def _read_types(items: _Items, box: Box) -> None:
    """Read what each item is (iinf)."""
    start = box.content + (8 if items.data[box.content] else 6)
    for entry in walk(items.data, start, box.end, items.format):
        version = items.data[entry.content]
        if entry.name != b"infe" or version < 2:
            continue
        wide = 4 if version > 2 else 2
        position = entry.content + 4 + wide + 2
        kind = items.data[position : position + 4]
        items.types[_number(items.data, entry.content + 4, wide)] = kind
        if kind in _CAMERA_DATA:
            items.hidden.append((position, b"skip"))


def _read_references(items: _Items, box: Box) -> None:
    """Read which item refers to which (iref)."""
    wide, total = 4 if items.data[box.content] else 2, 0
    for reference in walk(items.data, box.content + 4, box.end, items.format):
        source = _number(items.data, reference.content, wide)
        start = reference.content + wide + 2
        count = _number(items.data, start - 2, 2)
        total += count
        if total > MAX_PARTS:
            raise too_many_parts(items.format, "references")
        to = struct.unpack_from(f">{count}{'I' if wide == 4 else 'H'}", items.data, start)
        items.references.setdefault((reference.name, source), to)


def _read_properties(items: _Items, box: Box) -> None:
    """Read the properties and which item has which (ipco and ipma)."""
    entries = 0
    for inner in walk(items.data, box.content, box.end, items.format):
        if inner.name == b"ipco":
            items.properties += walk(items.data, inner.content, inner.end, items.format)
        if inner.name != b"ipma":
            continue
        wide, index = 4 if items.data[inner.content] else 2, 2 if items.data[inner.content + 3] & 1 else 1
        position = inner.content + 8
        for _ in range(_number(items.data, inner.content + 4, 4)):
            item, count = _number(items.data, position, wide), items.data[position + wide]
            position += wide + 1
            entries += 1 + count
            if entries > MAX_PARTS:
                raise too_many_parts(items.format, "properties")
            mask = 0x7FFF if index == 2 else 0x7F
            items.of_items.setdefault(
                item, [_number(items.data, position + i * index, index) & mask for i in range(count)]
            )
            position += count * index


def _read_places(items: _Items, box: Box) -> None:
    """Read where the items' data are (iloc)."""
    data, version, position = items.data, items.data[box.content], box.content + 6
    sizes = [data[box.content + 4] >> 4, data[box.content + 4] & 15, data[box.content + 5] >> 4]
    index_size = data[box.content + 5] & 15 if version else 0
    wide, total = 4 if version == 2 else 2, 0
    offset_size, length_size, base_size = sizes
    count = _number(data, position, wide)
    position += wide
    for _ in range(count):
        item = _number(data, position, wide)
        position += wide
        method = _number(data, position, 2) & 15 if version else 0
        position += (2 if version else 0) + 2
        base = _number(data, position, base_size)
        extents = _number(data, position + base_size, 2)
        position += base_size + 2
        total += extents
        if total > MAX_PARTS:
            raise too_many_parts(items.format, "extents")
        if method == 1:
            base += items.inside.content if items.inside else len(data)
        places = items.places.setdefault(item, [])
        for _ in range(extents):
            start = base + _number(data, position + index_size, offset_size)
            length = _number(data, position + index_size + offset_size, length_size)
            places.append((start, start + length if length else len(data)))
            position += index_size + offset_size + length_size


def _size(items: _Items, item: int) -> tuple[int, int]:
    """Give an item's width and height."""
    extent = items.property(item, b"ispe")
    width, height = struct.unpack_from(">II", extent, 4)
    if not width or not height:
        raise damaged(items.format, f"a size of {width}x{height}")
    return width, height


def _coded_pixels(items: _Items, item: int) -> int:
    """Count the pixels that are decoded for an item: of a grid, those of its tiles. Raises InvalidImage."""
    parts: tuple[int, ...] = (item,)
    if items.types.get(item) == b"grid":
        parts = items.references.get((b"dimg", item), ())
    if len(parts) > _MAX_TILES:
        raise too_many_parts(items.format, "tiles", _MAX_TILES)
    pixels = 0
    for part in parts:
        kind = items.types.get(part, b"")
        if kind not in _CODED[items.format]:
            raise unsupported(items.format, f"coded as {_CODECS.get(kind, kind.decode('ascii', 'replace'))}")
        width, height = _size(items, part)
        if items.format == "AVIF":
            columns, rows, pictures = av1_size(_coded_data(items, part))
            width, height = max(width, columns), max(height, rows)
        else:
            configuration = items.property(part, b"hvcC")
            pictures = hevc_pictures(_coded_data(items, part), (configuration[21] & 3) + 1)
        if pictures > _MAX_LAYERS:
            raise unsupported(items.format, f"{pictures} images in the place of one")
        pixels += width * height * max(pictures, 1)
    return pixels


def _coded_data(items: _Items, item: int) -> bytes:
    places = items.places.get(item, [])
    if any(end > len(items.data) for _, end in places):
        raise truncated(items.format, "pixels are missing")
    if sum(end - start for start, end in places) > len(items.data):
        raise damaged(items.format, "pixels that are used several times")
    return b"".join(items.data[start:end] for start, end in places)


def _changed(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """Give the file with these bytes written at these places."""
    if not changes:
        return data
    changed = bytearray(data)
    for position, value in changes:
        changed[position : position + len(value)] = value
    return bytes(changed)
