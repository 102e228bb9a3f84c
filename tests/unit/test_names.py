"""image_preprocess: what is no image, or none that is read here, is called by its name; text is shown as text."""

import base64
import gzip
import io
import json
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.image_files import encode
from tests.unit.test_preprocess import pixels, preprocess

PNG = encode(Image.new("RGB", (8, 8), "red"), "PNG")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


def reason(data: bytes) -> str:
    with pytest.raises(preprocess.InvalidImage) as caught:
        pixels(data)
    return str(caught.value)


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "x" * 100)
    return file.getvalue()


def saved(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def boxed(brand: bytes, *compatible: bytes) -> bytes:
    body = brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(200)


def targa(footer: bool, kind: int = 2) -> bytes:
    data = struct.pack("<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, 8, 8, 24, 0) + bytes(range(192))
    return data + (bytes(8) + b"TRUEVISION-XFILE.\0" if footer else b"")


OTHERS = {
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj",
    "PDF,": b"\r\n%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj",
    "Photoshop": b"8BPS\0\1" + bytes(20),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "PostScript (EPS)": b"\xc5\xd0\xd3\xc6" + bytes(30),
    "JPEG XL": b"\xff\x0a" + bytes(range(50)),
    "JPEG XL,": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50),
    "JPEG XR": b"II\xbc\x01\x20\0\0\0" + bytes(50),
    "JPEG-LS": b"\xff\xd8\xff\xf7\0\x0b\x08\0\x08\0\x08\1\1\x11\0\xff\xda\0\x08\1\1\0\0\0\0abc",
    "raw file (Canon CR3)": boxed(b"crx ", b"crx ", b"isom"),
    "raw file (Canon CR2)": b"II*\0\x10\0\0\0CR\2\0" + bytes(60),
    "raw file (Fujifilm RAF)": b"FUJIFILMCCD-RAW 0201" + bytes(60),
    "raw file (Olympus ORF)": b"IIRO\x08\0\0\0" + bytes(60),
    "raw file (Panasonic RW2)": b"IIU\0\x18\0\0\0" + bytes(60),
    "BPG": b"BPG\xfb" + bytes(20),
    "FLIF": b"FLIF1" + bytes(20),
    "OpenEXR": b"\x76\x2f\x31\x01\2\0\0\0" + bytes(20),
    "Radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n",
    "FITS": b"SIMPLE  =                    T" + b" " * 50,
    "ICNS": b"icns\0\0\1\0" + bytes(20),
    "CUR": b"\0\0\2\0\1\0" + bytes(20),
    "DDS": b"DDS |\0\0\0" + bytes(20),
    "GIMP": b"gimp xcf v011\0",
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "EMF": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(20),
    "DICOM": bytes(128) + b"DICM" + bytes(20),
    "TGA": targa(footer=True),
    "TGA,": targa(footer=False, kind=10),
    "NumPy": saved(np.zeros((4, 4, 3), np.uint8)),
    "ZIP": zipped("a.txt"),
    "Office": zipped("[Content_Types].xml"),
    "Microsoft Office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(60),
    "gzip": gzip.compress(PNG),
    "SVGZ": gzip.compress(b'<?xml version="1.0"?>\n' + SVG),
    "TAR": b"a.png".ljust(257, b"\0") + b"ustar\x0000" + bytes(200),
    "7-Zip": b"7z\xbc\xaf\x27\x1c" + bytes(20),
    "RAR": b"Rar!\x1a\x07\1\0",
    "XZ": b"\xfd7zXZ\0\0\4",
    "Zstandard": b"\x28\xb5\x2f\xfd\x24\x05",
    "film (MPEG-4)": boxed(b"isom", b"isom", b"avc1"),
    "QuickTime": boxed(b"qt  "),
    "WebM": b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1",
    "AVI": b"RIFF\x24\0\0\0AVI LIST" + bytes(20),
    "WAV": b"RIFF\x24\0\0\0WAVEfmt " + bytes(20),
    "RIFF": b"RIFF\x24\0\0\0ABCDfmt " + bytes(20),
    "MP3": b"ID3\4\0\0\0\0\0\0",
    "Ogg": b"OggS\0\2" + bytes(20),
    "program": b"\x7fELF\2\1\1",
    "media file": boxed(b"abcd"),
}

TEXTS = {
    "SVG": SVG,
    "SVG,": b'\n  \n<?xml version="1.0" encoding="UTF-8"?>\n<!-- a comment -->\n' + SVG,
    "SVG, which": b"\xef\xbb\xbf" + SVG,
    "SVG, which is": b"<!--" + b"long " * 2000 + b"-->\n" + SVG,
    "SVG, which is not": b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd">' + SVG,
    "SVG, which is not read": '<?xml version="1.0"?><svg/>'.encode("utf-16"),
    "SVG, which is not read here": b"<svg:svg xmlns:svg='http://www.w3.org/2000/svg'/>",
    "HTML": b"\r\n<!DOCTYPE html>\n<html><head><title>404</title></head></html>",
    "HTML page": b"<html>\n<body><svg></svg></body></html>",
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "JSON": json.dumps({"error": "not found"}).encode(),
    "JSON)": b"[1, 2, 3]",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "a data URL": b"data:image/png;base64," + base64.b64encode(PNG),
    "a data URL:": b"DATA:;base64," + base64.b64encode(PNG),
    "a URL": b"https://example.org/cat.jpg",
    "a URL:": b"s3://bucket/cat.jpg\n",
    "XPM": b"/* XPM */\nstatic char *x[] = {",
    "XBM": b"#define cat_width 16\n#define cat_height 16\n",
    "it starts with 'hello'": b"hello",
    "it starts with 'żółta": "żółta łódka na wodzie".encode(),
    "it starts with '猫の写真": "猫の写真です。".encode() * 999,
    "it starts with 'P3 is": b"P3 is my favourite format",
    "it starts with 'BMW": b"BMW is a maker of cars, and this is text",
    "it starts with 'Unicode": "Unicode of 16 bits".encode("utf-16-le"),
    "it starts with 'Unicode of": "Unicode of 16 bits".encode("utf-16-be"),
    "it starts with 'Zürich": "Zürich, und so fort, von einer alten Maschine in latin-1. ".encode("latin-1") * 2,
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_named(name: str) -> None:
    text = reason(OTHERS[name])
    assert name in text
    assert "JPEG or PNG" in text
    assert "damaged" not in text


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_called_text(name: str) -> None:
    text = reason(TEXTS[name])
    assert text.startswith("text, not the bytes of an image file")
    assert ": it starts with " in text  # last, since these characters may be anything
    assert name in text


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("url_safe", [False, True])
def test_base64_is_told_from_text(kind: str, url_safe: bool) -> None:
    encoded = base64.b64encode(encode(Image.new("RGB", (30, 20), "red"), kind))
    encoded = encoded.translate(bytes.maketrans(b"+/", b"-_")) if url_safe else encoded
    for text in (encoded, encoded[:-2], b"\n".join(encoded[i : i + 76] for i in range(0, len(encoded), 76))):
        assert reason(text) == f"base64 of a {kind} file, not its bytes: decode it first"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty: no bytes"),
        (b"\0" * 100, "nothing but zeros"),
        (b"\x8b\x01\xfe\x03\x99\x05\xa1\x17" * 9, "unknown image format: it starts with 8b 01 fe 03 99 05 a1 17"),
        (b"\x8b", "unknown image format: it starts with 8b"),
        (b"P7\nWIDTH 9\nHEIGHT 9\n", "unsupported kind of PPM: PAM"),
        (b"PF\n9 9\n-1.0\n" + bytes(999), "unsupported kind of PPM: floating-point"),
        (b"Pf\n9 9\n-1.0\n" + bytes(999), "unsupported kind of PPM: floating-point"),
        (b"BM" + bytes(12) + struct.pack("<I", 16) + bytes(40), "unsupported kind of BMP: a header of 16 bytes"),
        (boxed(b"mif1", b"miaf"), "unsupported kind of HEIF: no image but a film"),
    ],
)
def test_what_has_no_name_is_described(data: bytes, expected: str) -> None:
    assert expected in reason(data)


@pytest.mark.parametrize("bits", [2, 64])
def test_bitmaps_of_unusual_depths(bits: int) -> None:
    data = bytearray(encode(Image.new("RGB", (9, 9)), "BMP"))
    data[28] = bits
    assert reason(bytes(data)).startswith(f"unsupported kind of BMP: {bits} bits a pixel")


@pytest.mark.parametrize(("compression", "name"), [(4, "JPEG in it"), (5, "PNG in it"), (3, "bitfields")])
def test_bitmaps_of_unusual_compressions(compression: int, name: str) -> None:
    data = bytearray(encode(Image.new("RGB", (9, 9)), "BMP"))
    data[30] = compression
    assert "unsupported kind of BMP: " in reason(bytes(data))
    assert name in reason(bytes(data))


def test_pngs_of_apples_own_kind() -> None:
    data = PNG[:8] + struct.pack(">I", 4) + b"CgBI" + bytes(8) + PNG[8:]
    assert reason(data).startswith("unsupported kind of PNG: optimised for iOS")


def test_a_page_of_many_tags_is_soon_told() -> None:
    """No pattern may take long over what looks like the beginning of its match again and again."""
    for text in (b"<!" * 40_000, b"<a" * 40_000, b"<!--" * 20_000, b"<x:" * 30_000, b"data:" * 20_000):
        assert reason(text).startswith("text, not the bytes of an image file")
