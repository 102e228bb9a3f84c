"""What a file is, by its bytes: a format that is read here, or the name of one that is not.

Nothing is taken from a file's name or from what its sender says of it.
"""

import re
import zlib
from contextlib import suppress

import jpeg2000
from image_file import InvalidImage, not_read
from prose import from_base64, name_of_text

_READ = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"II\0*", "TIFF"),  # the other byte order's number; some write it
    (b"MM*\0", "TIFF"),
    (jpeg2000.SIGNATURE, "JPEG2000"),
    (jpeg2000.STREAM_SIGNATURE, "JPEG2000"),
    (b"\0\0\1\0", "ICO"),
    (b"qoif", "QOI"),
)
_NETPBM = re.compile(rb"P(?:[1-6][ \t\n\v\f\r#]+[0-9#]|7\n|[Ff][ \t\n\r]+-?[0-9])")
_DIB_HEADERS = {length.to_bytes(4, "little") for length in (12, 40, 52, 56, 64, 108, 124)}
_BMP_HEADERS = range(12, 256)

_AVIF, _HEIF = {b"avif", b"avis"}, {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF_LIKE = {b"mif1", b"msf1", b"mif2", b"miaf"}
_BRANDS = (
    (b"crx", "a camera's raw file (Canon CR3)"),
    (b"jxl", "JPEG XL"),
    (b"qt", "a QuickTime film"),
    (b"M4A", "sound (MPEG-4)"),
    (b"M4B", "sound (MPEG-4)"),
    (b"3g", "a film (3GPP)"),
    (b"mp", "a film (MPEG-4)"),
    (b"iso", "a film (MPEG-4)"),
    (b"avc", "a film (MPEG-4)"),
    (b"M4V", "a film (MPEG-4)"),
    (b"dash", "a film (MPEG-4)"),
)

# Where, what, and its name. Longer signatures come before shorter ones that begin alike.
_NOT_READ = (
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"%PDF-", "PDF"),
    (0, b"%!PS", "PostScript (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file (Fujifilm RAF)"),
    (0, b"IIRO", "a camera's raw file (Olympus ORF)"),
    (0, b"IIRS", "a camera's raw file (Olympus ORF)"),
    (0, b"MMOR", "a camera's raw file (Olympus ORF)"),
    (0, b"IIU\0", "a camera's raw file (Panasonic RW2)"),
    (0, b"II\x1a\0\0\0HEAPCCDR", "a camera's raw file (Canon CRW)"),
    (0, b"FOVb", "a camera's raw file (Sigma X3F)"),
    (0, b"\0MRM", "a camera's raw file (Minolta MRW)"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"FLIF", "FLIF"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"icns", "an icon of macOS (ICNS)"),
    (0, b"DDS ", "DDS"),
    (0, b"\xabKTX ", "KTX"),
    (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"\xd7\xcd\xc6\x9a", "Windows Metafile (WMF)"),
    (0, b"\1\0\x09\0\0\3", "Windows Metafile (WMF)"),
    (40, b" EMF", "Enhanced Metafile (EMF)"),
    (0, b"\x8aMNG\r\n\x1a\n", "MNG"),
    (0, b"\x8bJNG\r\n\x1a\n", "JNG"),
    (0, b"AT&TFORM", "DjVu"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"\x01\xda\0", "SGI"),
    (0, b"\x01\xda\1", "SGI"),
    (0, b"\x0a\5\1\x08", "PCX"),
    (128, b"DICM", "DICOM"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"PAR1", "Parquet"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"PK\3\4", "a ZIP archive (or an Office document)"),
    (0, b"PK\5\6", "a ZIP archive"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Microsoft Office document"),
    (0, b"{\\rtf", "a document (RTF)"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\xfd7zXZ\0", "compressed data (XZ)"),
    (0, b"BZh", "compressed data (bzip2)"),
    (0, b"\x28\xb5\x2f\xfd", "compressed data (Zstandard)"),
    (0, b"\x04\x22\x4d\x18", "compressed data (LZ4)"),
    (257, b"ustar", "a TAR archive"),
    (0, b"\x1a\x45\xdf\xa3", "a film (WebM or Matroska)"),
    (0, b"FLV\1", "a film (Flash)"),
    (0, b"\0\0\1\xba", "a film (MPEG)"),
    (0, b"\0\0\1\xb3", "a film (MPEG)"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a film (Windows Media)"),
    (4, b"moov", "a QuickTime film"),
    (4, b"mdat", "a QuickTime film"),
    (4, b"wide", "a QuickTime film"),
    (0, b"\xff\xfb", "sound (MP3)"),
    (0, b"\xff\xf3", "sound (MP3)"),
    (0, b"\xff\xf1", "sound (AAC)"),
    (188, b"G@", "a film (MPEG)"),
    (0, b"OggS", "sound or film (Ogg)"),
    (0, b"ID3", "sound (MP3)"),
    (0, b"fLaC", "sound (FLAC)"),
    (0, b"MThd", "music (MIDI)"),
    (0, b"FWS", "Flash"),
    (0, b"CWS", "Flash"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"bplist00", "a property list"),
)
_RIFF = {b"AVI ": "a film (AVI)", b"WAVE": "sound (WAV)", b"ACON": "a cursor (ANI)"}
_TARGA_FOOTER = b"TRUEVISION-XFILE.\0"


def identify(data: bytes) -> str:
    """Give the format, one of FORMATS. Raises InvalidImage that names what the data are instead."""
    if not data:
        raise InvalidImage("empty: no bytes")
    for signature, name in _READ:
        if data.startswith(signature):
            return name
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if (data[:4] in _DIB_HEADERS and data[12:14] == b"\1\0") or (data[:4] == b"\x0c\0\0\0" and data[8:10] == b"\1\0"):
        return "DIB"
    if data[:4] == b"RIFF":
        if data[8:12] == b"WEBP":
            return "WEBP"
        raise not_read(_RIFF.get(data[8:12], "a RIFF file of an unknown kind"))
    if data[4:8] == b"ftyp":
        return _by_brand(data)
    if _NETPBM.match(data):
        return "PPM"
    raise _named(data)


def _by_brand(data: bytes) -> str:
    """Tell AVIF and HEIF from films and others that are made of boxes."""
    length = min(int.from_bytes(data[:4]), 256)
    brands = [data[8:12], *(data[position : position + 4] for position in range(16, length, 4))]
    for brand in brands:
        if brand in _AVIF:
            return "AVIF"
        if brand in _HEIF:
            return "HEIF"
    if _HEIF_LIKE.intersection(brands):
        return "HEIF"
    name = next((name for brand, name in _BRANDS if brands[0].startswith(brand)), "a media file of an unknown kind")
    raise not_read(name)


def _named(data: bytes) -> InvalidImage:
    """Say what the data are, if no image."""
    for position, signature, name in _NOT_READ:
        if data.startswith(signature, position):
            return not_read(name)
    if data[:1024].lstrip().startswith(b"%PDF-"):  # readers take it from there as well
        return not_read("PDF")
    if data[:4] == b"\0\0\2\0" and data[4:6] != b"\0\0":  # zeros would be those of a TGA
        return not_read("a cursor (CUR)")
    if not data.strip(b"\0"):
        return InvalidImage(f"unknown image format: it starts with {data[:8].hex(' ')}, and has nothing but zeros")
    if data.startswith(b"\x1f\x8b"):
        return not_read("SVG, compressed (SVGZ)" if b"<svg" in _inflated(data) else "compressed data (gzip)")
    with suppress(InvalidImage):
        return InvalidImage(f"base64 of a {identify(from_base64(data))} file, not its bytes: decode it first")
    if error := name_of_text(data):
        return error
    if data.endswith(_TARGA_FOOTER) or _is_targa(data):
        return not_read("TGA")
    return InvalidImage(f"unknown image format: it starts with {data[:8].hex(' ')}")


def _inflated(data: bytes) -> bytes:
    """Inflate the beginning of a gzip file."""
    try:
        return zlib.decompressobj(wbits=31).decompress(data[:4096], 4096)
    except zlib.error:
        return b""


def _is_targa(data: bytes) -> bool:
    """Tell a TGA file of the first version, which has no signature, by values that few others have there."""
    if len(data) < 18:
        return False
    has_map, kind, width, height, depth = data[1], data[2], data[12:14], data[14:16], data[16]
    if has_map != (kind in (1, 9)) or kind not in (1, 2, 3, 9, 10, 11) or b"\0\0" in (width, height):
        return False
    return depth in ((8, 16) if kind in (1, 3, 9, 11) else (15, 16, 24, 32)) and data[17] & 0xC0 == 0
