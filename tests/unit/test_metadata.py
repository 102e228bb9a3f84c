"""image_preprocess: what accompanies an image never spoils it. Each variant gives the pixels of the plain image."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.image_files import (
    Tag,
    encode,
    icon,
    jpeg_segment,
    png_chunk,
    riff,
    riff_chunks,
    tiff,
    with_jpeg_segments,
    with_png_chunks,
    without_jpeg_segments,
)
from tests.modules import REPOSITORY
from tests.unit.test_preprocess import pixels

with Image.open(REPOSITORY / "samples" / "photos" / "cat.jpg") as file:
    PHOTO = file.resize((90, 60))
JPEG, PNG = encode(PHOTO, "JPEG"), encode(PHOTO, "PNG")
WEBP = encode(PHOTO, "WEBP", lossless=True)

BAD_EXIF = {
    "of no bytes": b"",
    "of one byte": b"E",
    "cut in its name": b"Exif",
    "of its name alone": b"Exif\0\0",
    "of another order": b"Exif\0\0XX*\0\x08\0\0\0",
    "cut in its header": b"Exif\0\0II*\0\x08",
    "whose directory is beyond": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "whose directory is cut": b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01\x03\0\x01\0",
    "whose directory is itself": b"Exif\0\0II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "with values beyond": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
    "of nonsense": b"Exif\0\0" + bytes(range(256)),
    "of 60 kB": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(60_000),
    "with an orientation of 0": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\0\0\0\0\0\0\0\0",
    "with an orientation of 9": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",
    "with an orientation that has no value": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\0\0\0\0\6\0\0\0\0\0\0\0",
    "with an orientation in words": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0\x36\0\0\0\0\0\0\0",
}
ICC = {"of no bytes": b"", "short": b"\0\0\0\x0c", "of nonsense": bytes(range(256)), "large": bytes(2_000_000)}


def png_variants() -> Iterator[tuple[str, bytes]]:
    """PNGs with ancillary chunks that are broken, huge, empty, or just unusual."""
    deflated = {name: zlib.compress(value) for name, value in ICC.items()}
    bodies: dict[bytes, dict[str, bytes]] = {
        b"iCCP": {
            **{f"profile {name}": b"p\0\0" + value for name, value in deflated.items()},
            "empty": b"",
            "no compression": b"profile",
            "an unknown compression": b"p\0\x07" + deflated["short"],
            "not deflated": b"p\0\0nonsense",
        },
        b"tEXt": {"empty": b"", "no value": b"key", "no key": b"\0value", "bytes": b"k\0" + bytes(range(256))},
        b"zTXt": {
            "empty": b"",
            "unknown compression": b"k\0\x09" + zlib.compress(b"a"),
            "not deflated": b"k\0\0abc",
            "of 3 MB": b"k\0\0" + zlib.compress(bytes(3_000_000)),
            "a bomb as camera data": b"Raw profile type exif\0\0" + zlib.compress(bytes(30_000_000)),
            "camera data in no hexadecimal": b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n9\nzz"),
        },
        b"iTXt": {
            "empty": b"",
            "cut": b"key\0\1",
            "not UTF-8": b"key\0\0\0\0\0\xff\xfe",
            "not deflated": b"key\0\1\0\0\0abc",
            "a bomb": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(30_000_000)),
        },
        b"eXIf": BAD_EXIF,
        **{
            name: {"empty": b"", "cut": b"\1\2", "long": bytes(range(100)), "zeros": bytes(32)}
            for name in (
                b"gAMA",
                b"cHRM",
                b"sRGB",
                b"pHYs",
                b"sBIT",
                b"tIME",
                b"bKGD",
                b"hIST",
                b"sPLT",
                b"oFFs",
                b"pCAL",
            )
        },
        b"acTL": {"empty": b"", "no frames": bytes(8), "many": b"\xff" * 8, "twice": struct.pack(">II", 2, 0)},
        b"fcTL": {"empty": b"", "beyond the image": struct.pack(">IIIIIHHBB", 0, 999, 999, 9, 9, 0, 0, 0, 0)},
        b"fdAT": {"empty": b"", "out of order": b"\0\0\0\x09abc"},
        b"cICP": {"empty": b"", "unknown": b"\xff\xff\xff\xff"},
        b"quIz": {"unknown": b"?"},
        b"QuIz": {"unknown and critical": b"?"},
    }
    for name, variants in bodies.items():
        for what, body in variants.items():
            chunk = png_chunk(name, body)
            yield f"PNG {name.decode()} {what}", with_png_chunks(PNG, chunk)
            yield f"PNG {name.decode()} {what}, wrong checksum", with_png_chunks(PNG, png_chunk(name, body, checksum=7))
            yield f"PNG {name.decode()} {what}, after its pixels", with_png_chunks(PNG, chunk, after_pixels=True)
            yield f"PNG {name.decode()} {what}, twice", with_png_chunks(PNG, chunk, chunk)
    yield "PNG without an end", PNG[:-12]
    yield "PNG with bytes after its end", PNG + b"more"
    yield "PNG with tRNS that is too short", with_png_chunks(PNG, png_chunk(b"tRNS", b"\0"))
    yield "PNG with tRNS of a wrong checksum", with_png_chunks(PNG, png_chunk(b"tRNS", bytes(6), checksum=7))


def jpeg_variants() -> Iterator[tuple[str, bytes]]:
    """JPEGs with segments that are broken, huge, short, repeated."""
    bodies: dict[int, dict[str, bytes]] = {
        0xE0: {
            "empty": b"",
            "short": b"JF",
            "JFIF cut": b"JFIF\0\1",
            "another version": b"JFIF\0\7\7\0\0\1\0\1\0\0",
            "a cut thumbnail": b"JFIF\0\1\1\0\0\1\0\1\x40\x40abc",
            "extension": b"JFXX\0\x10",
            "AVI1": b"AVI1\0",
        },
        0xE1: {
            **BAD_EXIF,
            "XMP empty": b"http://ns.adobe.com/xap/1.0/\0",
            "XMP nonsense": b"http://ns.adobe.com/xap/1.0/\0\xff\xfe<x:xmp",
            "XMP extended": b"http://ns.adobe.com/xmp/extension/\0" + b"f" * 100,
        },
        0xE2: {
            "empty": b"",
            "ICC cut": b"ICC_PROFILE\0",
            "ICC part 9 of 1": b"ICC_PROFILE\0\x09\1abc",
            "ICC part 0 of 0": b"ICC_PROFILE\0\0\0abc",
            "ICC of 60 kB": b"ICC_PROFILE\0\1\1" + bytes(60_000),
            "MPF cut": b"MPF\0",
            "MPF nonsense": b"MPF\0II*\0\x08\0\0\0\xff\xff",
            "FPXR": b"FPXR\0",
        },
        0xED: {"empty": b"", "short": b"Photoshop 3.0\0", "cut": b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\xff\xff"},
        0xEE: {"empty": b"", "short": b"Adobe", "cut": b"Adobe\0\x64\0", "another": b"Ducky\0\1\2"},
        0xFE: {"empty": b"", "bytes": bytes(range(256)), "of 60 kB": b"c" * 60_000},
        **{code: {"empty": b"", "bytes": bytes(range(256))} for code in (0xE3, 0xE8, 0xEC, 0xEF)},
    }
    bare = without_jpeg_segments(JPEG, 0xE0)
    for code, variants in bodies.items():
        for what, body in variants.items():
            segment = jpeg_segment(code, body)
            yield f"JPEG {code:x} {what}", with_jpeg_segments(JPEG, segment)
            yield f"JPEG {code:x} {what}, alone", with_jpeg_segments(bare, segment)
            yield f"JPEG {code:x} {what}, 50 times", with_jpeg_segments(JPEG, *[segment] * 50)
    yield "JPEG of no application segment", bare
    yield "JPEG with an unknown transform", with_jpeg_segments(JPEG, jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\x07"))
    comment = jpeg_segment(0xFE, b"a")
    yield "JPEG with bytes between segments", with_jpeg_segments(JPEG, comment, b"\0\0\0", comment, b"junk")
    yield "JPEG with fill bytes", with_jpeg_segments(JPEG, b"\xff" * 30)
    yield "JPEG with a length of 0", with_jpeg_segments(JPEG, jpeg_segment(0xE5, b"", length=0))
    yield "JPEG with bytes after its end", JPEG + b"more"
    yield "JPEG with zeros before its end", JPEG[:-2] + bytes(40) + JPEG[-2:]
    yield "JPEG without an end", JPEG[:-2]
    yield "JPEG with half an end", JPEG[:-1]


def webp_variants() -> Iterator[tuple[str, bytes]]:
    """WebPs with broken or unusual chunks."""
    image = dict(riff_chunks(WEBP))
    header = struct.pack("<B", 0x2C) + b"\0\0\0" + struct.pack("<HBHB", 89, 0, 59, 0)  # says: profile, EXIF, XMP
    chunks = [(b"VP8X", header), (b"VP8L", image[b"VP8L"])]
    for what, value in ICC.items():
        yield f"WEBP profile {what}", riff(chunks[0], (b"ICCP", value), chunks[1])
    for what, value in BAD_EXIF.items():
        yield f"WEBP EXIF {what}", riff(*chunks, (b"EXIF", value))
    yield "WEBP XMP nonsense", riff(*chunks, (b"XMP ", b"\xff\xfe<x"))
    yield "WEBP promises what is not there", riff(*chunks)
    yield "WEBP unknown chunks", riff((b"quiz", b"?"), *chunks, (b"quiz", bytes(9999)))
    yield "WEBP XMP cut off", riff(*chunks, (b"XMP ", bytes(999)))[:-500]
    yield "WEBP with bytes after its end", WEBP + b"more"
    yield "WEBP of a wrong length", WEBP[:4] + b"\xff\xff\xff\x0f" + WEBP[8:]


def tiff_variants() -> Iterator[tuple[str, bytes]]:
    """TIFFs with broken or unusual tags."""
    samples = PHOTO.tobytes()
    tags: dict[str, dict[int, Tag | None]] = {
        "profile of nonsense": {34675: (7, bytes(range(256)))},
        "large profile": {34675: (7, bytes(2_000_000))},
        "XMP of nonsense": {700: (1, b"\xff\xfe<x:xmp")},
        "EXIF directory beyond": {34665: (4, [0xFFFFFFFF])},
        "GPS directory in the pixels": {34853: (4, [12])},
        "resolution of nothing": {282: (5, bytes(8)), 283: (5, bytes(8))},
        "resolution of a wrong type": {282: (2, b"abc\0"), 296: (3, [999])},
        "Photoshop data of nonsense": {34377: (7, b"8BIM")},
        "description that is no text": {270: (2, bytes(range(256)))},
        "unknown tags": {65000: (7, bytes(99)), 50838: (4, [1, 2, 3]), 33550: (12, bytes(24))},
        "an unknown type": {65001: (99, b"ab")},
        "an orientation of 0": {274: (3, [0])},
        "an orientation of 99": {274: (3, [99])},
    }
    for what, given in tags.items():
        yield f"TIFF {what}", tiff(90, 60, samples, [8] * 3, 2, tags=given)
    yield "TIFF profile cut off", tiff(90, 60, samples, [8] * 3, 2, tags={34675: (7, bytes(20))})[:-9]
    following = tiff(90, 60, samples, [8] * 3, 2)
    directory = int.from_bytes(following[4:8], "little")
    end = directory + 2 + 12 * int.from_bytes(following[directory : directory + 2], "little")
    for what, offset in (("itself", directory), ("beyond", 0xFFFFFFF0), ("its pixels", 9)):
        yield f"TIFF whose next directory is {what}", following[:end] + struct.pack("<I", offset) + following[end + 4 :]


def other_variants() -> Iterator[tuple[str, bytes]]:
    """Formats that hold little beside pixels."""
    image = GIF.index(b",\0\0\0\0\x5a")  # its image, 90 pixels wide
    for what, block in {
        "a comment": b"!\xfe\3abc\0",
        "an empty comment": b"!\xfe\0",
        "an application's data": b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0",
        "an application's data cut": b"!\xff\x0bNETSCAPE2.0\0",
        "a profile": b"!\xff\x0bICCRGBG1012" + b"\xff" + bytes(255) + b"\0",
        "a plain text": b"!\x01\x0c" + bytes(12) + b"\3abc\0",
        "an unknown extension": b"!\x99\1a\0",
        "control data that are too short": b"!\xf9\2\1\0\0",
        "zeros between blocks": bytes(9),
    }.items():
        yield f"GIF {what}", GIF[:image] + block + GIF[image:]
    yield "GIF without an end", GIF[:-1]
    yield "GIF with bytes after its end", GIF + b"more"
    header = JPEG2000.index(b"jp2h") - 4
    for what, box in {
        "a box of nonsense": b"\0\0\0\x0cuuidabcd",
        "XML of nonsense": b"\0\0\0\x0cxml \xff\xfe<x",
        "a box of no content": b"\0\0\0\x08free",
    }.items():
        yield f"JPEG2000 {what}", JPEG2000[:header] + box + JPEG2000[header:]
    length = int.from_bytes(JPEG2000[header : header + 4])
    for what, inner in {
        "a resolution cut": b"\0\0\0\x0ares \0\0",
        "a resolution of nothing": b"\0\0\0\x1ares \0\0\0\x12resc" + bytes(10),
        "a profile of nonsense": b"\0\0\0\x13colr\2\0\0nonsense",
    }.items():
        changed = struct.pack(">I", length + len(inner)) + JPEG2000[header + 4 : header + length] + inner
        yield f"JPEG2000 {what}", JPEG2000[:header] + changed + JPEG2000[header + length :]
    yield "JPEG2000 with bytes after its end", JPEG2000 + b"more"
    stream = encode(PHOTO, "JPEG2000", no_jp2=True)
    coding = stream.index(b"\xff\x52")
    yield "JPEG2000 comment of bytes", stream[:coding] + b"\xff\x64\0\x06\0\0\xff\xfe" + stream[coding:]
    for what, at in {"file size": 2, "image size": 34, "resolution": 38, "important colours": 50}.items():
        yield f"BMP wrong {what}", BMP[:at] + b"\xff\xff\xff\xff" + BMP[at + 4 :]
    yield "BMP with bytes after its end", BMP + b"more"
    inner = with_png_chunks(PNG, png_chunk(b"gAMA", b""), png_chunk(b"iCCP", b"", checksum=7))
    yield "ICO with a PNG of broken chunks", icon(inner, sides=(90,))
    yield "PPM with comments", b"P6 # a comment\n#\xff\n90#\r60\n# more\n255\n" + PHOTO.tobytes()
    yield "PPM with bytes after its end", encode(PHOTO, "PPM") + b"more"


GIF, JPEG2000, BMP = encode(PHOTO, "GIF"), encode(PHOTO, "JPEG2000"), encode(PHOTO, "BMP")
VARIANTS = dict([*png_variants(), *jpeg_variants(), *webp_variants(), *tiff_variants(), *other_variants()])
PLAIN = {"JPEG": pixels(JPEG), "GIF": pixels(GIF)}
LOSSLESS = pixels(PNG)


@pytest.mark.parametrize("variant", VARIANTS)
def test_metadata_never_spoils_a_image(variant: str) -> None:
    np.testing.assert_array_equal(pixels(VARIANTS[variant]), PLAIN.get(variant.split()[0], LOSSLESS))


def exif_of(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """Camera data of one tag, without their prefix."""
    mark = b"II" if order == "<" else b"MM"
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I", 9: "i"}[kind], orientation)
    return mark + struct.pack(order + "HIHHHI", 42, 8, 1, 0x0112, kind, 1) + value + bytes(4)


TURNED = {value: pixels(encode(PHOTO, "PNG", exif=b"Exif\0\0" + exif_of(value))) for value in range(1, 9)}
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
HEXADECIMAL = b"\nexif\n      32\n" + exif_of(6).hex().encode() + b"\n"
DOTTED = with_png_chunks(PNG, png_chunk(b"gAMA", b""))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4, 9])
def test_the_camera_turns_a_image(value: int, order: str, kind: int) -> None:
    exif = exif_of(value, order, kind)
    plain = pixels(encode(PHOTO, "PNG", exif=b"Exif\0\0" + exif))
    np.testing.assert_array_equal(plain, TURNED[value])
    np.testing.assert_array_equal(pixels(with_png_chunks(DOTTED, png_chunk(b"eXIf", exif))), TURNED[value])
    segment = jpeg_segment(0xE1, b"Exif\0\0" + exif)
    upright = pixels(with_jpeg_segments(JPEG, segment))
    assert (upright == PLAIN["JPEG"]).all() == (value == 1)


@pytest.mark.parametrize(
    "data",
    [
        with_png_chunks(PNG, png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(HEXADECIMAL))),
        with_png_chunks(PNG, png_chunk(b"tEXt", b"Raw profile type exif\0" + HEXADECIMAL)),
        with_png_chunks(PNG, png_chunk(b"tEXt", b"exif\0" + b"Exif\0\0" + exif_of(6))),
        with_png_chunks(PNG, png_chunk(b"eXIf", exif_of(6)), after_pixels=True),
        with_png_chunks(PNG, png_chunk(b"eXIf", exif_of(6), checksum=7)),
        with_png_chunks(PNG, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        with_png_chunks(PNG, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
        with_png_chunks(PNG, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), after_pixels=True),
        riff(*riff_chunks(WEBP), (b"EXIF", exif_of(6))),
        riff(*riff_chunks(WEBP), (b"EXIF", b"Exif\0\0" + exif_of(6))),
        riff(*riff_chunks(WEBP), (b"XMP ", XMP)),
        tiff(90, 60, PHOTO.tobytes(), [8] * 3, 2, tags={274: (3, [6])}),
        tiff(90, 60, PHOTO.tobytes(), [8] * 3, 2, tags={274: (4, [6])}),
        tiff(90, 60, PHOTO.tobytes(), [8] * 3, 2, tags={700: (1, XMP)}),
        icon(with_png_chunks(PNG, png_chunk(b"eXIf", exif_of(6))), sides=(90,)),
    ],
    ids=range(15),
)
def test_wherever_it_stands(data: bytes) -> None:
    np.testing.assert_array_equal(pixels(data), TURNED[6])


def test_wherever_it_stands_in_a_jpeg() -> None:
    expected = pixels(encode(Image.open(io.BytesIO(JPEG)).transpose(Image.Transpose.ROTATE_270), "PNG"))
    camera = jpeg_segment(0xE1, b"Exif\0\0" + exif_of(6))
    for segments in (
        [camera],
        [jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)],
        [jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), camera],
        [jpeg_segment(0xE1, b"Exif\0\0" + exif_of(6)[:20]), jpeg_segment(0xE1, b"Exif\0\0" + exif_of(6)[20:])],
        [camera, jpeg_segment(0xE1, b"Exif\0\0" + exif_of(3))],
        [jpeg_segment(0xFE, b"\xff\xda\xff\xd9"), camera],
    ):
        np.testing.assert_array_equal(pixels(with_jpeg_segments(JPEG, *segments)), expected)
