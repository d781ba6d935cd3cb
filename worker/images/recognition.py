"""Recognition of files that are no image of a supported format, for an error with a remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

#: Bytes that are searched for the marks of a document.
HEAD_BYTES: Final = 4096

_CONVERT: Final = "save it as a PNG or JPEG"
_EXTRACT: Final = "extract the image from it"
_SEND_IMAGE: Final = "send the image itself, or a URL that leads to it"

#: Marks at the start of a file, or at an offset, with the file's name and the remedy.
_MARKS: Final[Sequence[tuple[int, bytes, str, str]]] = (
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image", _CONVERT),
    (0, b"\xff\x0a", "a JPEG XL image", _CONVERT),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with git lfs pull"),
    (0, b"%!PS", "a PostScript file", _CONVERT),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document", _EXTRACT),
    (0, b"PK\x05\x06", "an empty ZIP archive", _EXTRACT),
    (0, b"Rar!", "a RAR archive", _EXTRACT),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _EXTRACT),
    (0, b"\x1f\x8b", "a gzip file", "decompress it"),
    (0, b"BZh", "a bzip2 file", "decompress it"),
    (0, b"\xfd7zXZ", "an xz file", "decompress it"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file", "decompress it"),
    (257, b"ustar", "a tar archive", _EXTRACT),
    (0, b"8BPS", "a Photoshop file", _CONVERT),
    (0, b"gimp xcf", "a GIMP file", _CONVERT),
    (0, b"\0\0\1\0", "an icon (ICO)", _CONVERT),
    (0, b"\0\0\2\0\0\0\0\0", "a TGA image", _CONVERT),
    (0, b"\0\0\x0a\0\0\0\0\0", "a TGA image", _CONVERT),
    (0, b"\0\0\2\0", "a cursor (CUR)", _CONVERT),
    (0, b"icns", "an icon (ICNS)", _CONVERT),
    (0, b"DDS ", "a DDS texture", _CONVERT),
    (0, b"qoif", "a QOI image", _CONVERT),
    (0, b"\x01\xda", "an SGI image", _CONVERT),
    (0, b"\x0a\x05\x01", "a PCX image", _CONVERT),
    (0, b"SIMPLE  =", "a FITS file", _CONVERT),
    (0, b"v/1\x01", "an OpenEXR image", _CONVERT),
    (0, b"#?RADIANCE", "a Radiance HDR image", _CONVERT),
    (0, b"/* XPM", "an XPM image", _CONVERT),
    (0, b"#define", "an XBM image or C source", _CONVERT),
    (0, b"FUJIFILMCCD-RAW", "a raw camera file", "export it as a JPEG or TIFF"),
    (8, b"crx ", "a raw camera file", "export it as a JPEG or TIFF"),
    (0, b"MM\x00\x2b", "a big-endian BigTIFF", "save it as a classic TIFF or PNG"),
    (128, b"DICM", "a DICOM file", _CONVERT),
    (4, b"ftyp", "a video or sound file (MP4, MOV)", "extract a frame as a PNG or JPEG"),
    (4, b"moov", "a video (MOV)", "extract a frame as a PNG or JPEG"),
    (0, b"\x1aE\xdf\xa3", "a video (WebM, Matroska)", "extract a frame as a PNG or JPEG"),
    (8, b"AVI ", "a video (AVI)", "extract a frame as a PNG or JPEG"),
    (8, b"WAVE", "a sound file", _SEND_IMAGE),
    (0, b"ID3", "a sound file", _SEND_IMAGE),
    (0, b"OggS", "a sound or video file", _SEND_IMAGE),
    (0, b"\x93NUMPY", "a NumPy array", "save it with PIL.Image.fromarray(array).save(path)"),
    (0, b"\x80\x04", "a Python pickle", _CONVERT),
    (0, b"SQLite format 3", "an SQLite database", _SEND_IMAGE),
    (0, b"MZ", "a program", _SEND_IMAGE),
    (0, b"\x7fELF", "a program", _SEND_IMAGE),
    (0, b"#!", "a script", _SEND_IMAGE),
    (0, b"data:", "a data: URL", "send the bytes that it encodes"),
    (0, b"/9j/", "a JPEG in base64", "decode it and send the bytes"),
    (0, b"iVBORw0KGgo", "a PNG in base64", "decode it and send the bytes"),
    (0, b"R0lGOD", "a GIF in base64", "decode it and send the bytes"),
)

#: Marks anywhere in the head of a file.
_DOCUMENTS: Final[Sequence[tuple[re.Pattern[bytes], str, str]]] = (
    (re.compile(rb"<!doctype html|<html|<head|<body", re.I), "an HTML page", _SEND_IMAGE),
    (re.compile(rb"<svg", re.I), "an SVG drawing", _CONVERT),
    (re.compile(rb"%PDF-"), "a PDF", "save its page as a PNG or JPEG"),
    (re.compile(rb"\A\s*<\?xml|\A\s*<[A-Za-z]"), "an XML text", _SEND_IMAGE),
    (re.compile(rb"\A\s*[{\[]\s*[\"{\[\]}]"), "a JSON text", _SEND_IMAGE),
)

_IMAGE_MARKS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF")


def recognise(data: bytes) -> tuple[str, str]:
    """Return the name of a file's kind, with its article, and the remedy; empty if unknown."""
    for offset, mark, name, remedy in _MARKS:
        if data.startswith(mark, offset):
            return name, remedy
    head = data[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")
    if head.lstrip().startswith(_IMAGE_MARKS):
        return "an image with bytes before its start", "remove them"
    if not head.strip(b"\0"):
        return "zeros", "transfer the file again: it was not written completely"
    for pattern, name, remedy in _DOCUMENTS:
        if pattern.search(head):
            return name, remedy
    return ("a text", _SEND_IMAGE) if _is_text(head) else ("", "")


def _is_text(head: bytes) -> bool:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    text = head.decode("utf-8", "replace")[:-3]
    return bool(text) and all(character.isprintable() or character.isspace() for character in text)
