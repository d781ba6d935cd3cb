"""Files that are not images, and polyglots: images that are another format as well."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from random import Random

from tests.hostile.specimen import (
    ANSWERED,
    INVALID,
    Specimen,
    encoded,
    picture,
    segment,
    specimen,
)

_ENTITY = b"""<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/x"/><text>&x;</text></svg>"""
_LAUGHS = b"""<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c
"&b;&b;&b;&b;">]><svg xmlns="http://www.w3.org/2000/svg"><text>&c;&c;&c;&c;</text></svg>"""


def strangers() -> Iterator[Specimen]:
    """Yield files that are not images, despite their names."""
    tar, archive = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        file.addfile(tarfile.TarInfo("../../x.png"))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("x.png", bytes(1_000_000))
    image = picture()
    files = {
        "empty.jpg": b"",
        "one-byte.jpg": b"\xff",
        "two-bytes.jpg": b"\xff\xd8",
        "magic-only.jpg": b"\xff\xd8\xff",
        "magic-only.png": b"\x89PNG\r\n\x1a\n",
        "magic-only.gif": b"GIF89a",
        "magic-only.webp": b"RIFF\0\0\0\0WEBP",
        "magic-only.tif": b"II\x2a\0",
        "magic-only.bmp": b"BM",
        "magic-only.ppm": b"P6",
        "picture.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        "entity.svg": _ENTITY,
        "laughs.svg": _LAUGHS,
        "paper.pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "film.mp4": struct.pack(">I", 24) + b"ftypisom\0\0\2\0isomiso2" + bytes(500),
        "picture.heic": struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(500),
        "page.jpg": b"<!doctype html><html><body><h1>404</h1></body></html>",
        "answer.png": b'{"error": {"code": 404, "message": "no such image"}}',
        "programme.exe": b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(200),
        "programme.elf": b"\x7fELF\x02\x01\x01" + bytes(200),
        "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
        "icon.ico": encoded(image, "ICO"),
        "picture.icns": b"icns" + struct.pack(">I", 8),
        "picture.psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(300),
        "picture.dds": encoded(image, "DDS"),
        "picture.tga": encoded(image, "TGA"),
        "picture.pcx": encoded(image, "PCX"),
        "picture.sgi": encoded(image, "SGI"),
        "picture.qoi": b"qoif" + struct.pack(">IIBB", 9, 9, 3, 0) + bytes(300),
        "sky.fits": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
        "picture.xbm": b"#define x_width 9\n#define x_height 9\nstatic char x_bits[] = {\n0x00};",
        "picture.xpm": b'/* XPM */\nstatic char *x[] = {"1 1 1 1", "a c #ff0000", "a"};',
        "words.txt": b"just some words in a file called cat.jpg",
        "words.utf16": "Wörter".encode("utf-16") * 20,
        "picture.tar": tar.getvalue(),
        "picture.zip": archive.getvalue(),
        "picture.svgz": gzip.compress(_ENTITY),
        "zeros.png": bytes(100_000),
        "noise.jpg": Random(1).randbytes(100_000),
        "script.sh": b"#!/bin/sh\nrm -rf /\n",
        "a-pickle.png": b"\x80\x04\x95cos\nsystem\n(S'id'\ntR.",
    }
    for name, data in files.items():
        yield specimen(name, data, INVALID)


def polyglots() -> Iterator[Specimen]:
    """Yield images that are another format as well: only the image counts."""
    jpeg = encoded(picture(), "JPEG")
    png = encoded(picture(), "PNG")
    gif = encoded(picture().quantize(16), "GIF")
    php = segment(0xFE, b"<?php system($_GET['c']); ?>")
    archive = io.BytesIO(png)
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr("x.txt", "words")
    files = {
        "php-in-comment.jpg": jpeg[:2] + php + jpeg[2:],
        "html-behind.jpg": jpeg + b"<script>alert(1)</script>",
        "zip-behind.png": archive.getvalue(),
        "php-behind.png": png + b"<?php system('id'); ?>",
        "script-behind.gif": gif + b"*/=1;alert(1)//",
        "script-as-size.gif": b"GIF89a" + b"/*" + gif[8:] + b"*/=1;alert(1)",
        "picture-behind.jpg": jpeg + jpeg,
        "programme-behind.bmp": encoded(picture(), "BMP") + b"MZ" + bytes(500),
        "page-behind.webp": encoded(picture(), "WEBP") + b"<html></html>",
        "pdf-in-comment.jpg": jpeg[:2] + segment(0xFE, b"%PDF-1.4\n1 0 obj<<>>") + jpeg[2:],
    }
    for name, data in files.items():
        yield specimen(name, data, ANSWERED)
    yield specimen("picture-in-pdf.pdf", b"%PDF-1.7\n" + jpeg + b"\n%%EOF", INVALID)
    yield specimen("picture-in-page.html", b"<html>" + png, INVALID)
    yield specimen("spaces-before.png", b"  " + png, INVALID)
    yield specimen("mark-before.jpg", b"\xef\xbb\xbf" + jpeg, INVALID)
