"""A contact sheet of the closest calls: a self-contained HTML page."""

from __future__ import annotations

import base64
import io
import os
import warnings
from collections.abc import Callable, Sequence
from html import escape
from typing import Final
from urllib.parse import urlsplit

from .statistics import Call

#: Longer side of a thumbnail, in pixels.
_SIZE_PX: Final = 240
#: Maximum pixels of an image that is decoded for a thumbnail.
_MAX_PIXELS: Final = 100_000_000
#: Formats that are decoded; others, such as PostScript, run programs.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "MPO")
_STYLE: Final = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 1rem }
figure { margin: 0; padding: .6rem; border: 1px solid #ccc; border-radius: 6px }
figure img { max-width: 100%; height: 180px; object-fit: contain; display: block; margin: auto }
figcaption { overflow-wrap: anywhere }
.accepted { border-left: 5px solid #2e7d32 } .rejected { border-left: 5px solid #c62828 }
small { color: #555 }
"""


def sheet_page(calls: Sequence[Call], locate: Callable[[str], str]) -> str:
    """Return the page; `locate` returns the path or URL of an image."""
    figures = "\n".join(_figure(call, locate(call.image)) for call in calls)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Closest calls</title><style>{_STYLE}</style></head><body>"
        "<h1>Closest calls</h1><p>The texts whose probability is nearest to the threshold, the "
        f"nearest first.</p>\n<main>\n{figures}\n</main></body></html>\n"
    )


def _figure(call: Call, image: str) -> str:
    decision = "accepted" if call.accepted else "rejected"
    kind = call.series if call.source == "web" else "synthetic"
    # Lone surrogates of a path cannot be written in UTF-8.
    texts = [call.text, call.image]
    text, name = (escape(t.encode("utf-8", "replace").decode()) for t in texts)
    return (
        f'<figure class="{decision}">{_image(image)}<figcaption>{text}<br>'
        f"<small>{decision} · {call.probability:.4f} · {kind} · {name[:200]}</small>"
        "</figcaption></figure>"
    )


def _image(image: str) -> str:
    if urlsplit(image).scheme in ("http", "https"):
        return f'<img loading="lazy" src="{escape(image)}" alt="">'
    if os.path.isfile(image) and (data := _thumbnail(image)) is not None:
        return f'<img loading="lazy" src="data:image/jpeg;base64,{data}" alt="">'
    return "<p><small>no preview</small></p>"


def _thumbnail(path: str) -> str | None:
    """Return a JPEG in base64; None if the image cannot be read."""
    from PIL import Image, ImageOps

    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    return None
                picture.draft("RGB", (_SIZE_PX, _SIZE_PX))
                upright = ImageOps.exif_transpose(picture)
                upright.thumbnail((_SIZE_PX, _SIZE_PX))
                upright.convert("RGB").save(file, "JPEG", quality=75)
    except Exception:
        # Decoders raise many kinds of errors for damaged files.
        return None
    return base64.b64encode(file.getvalue()).decode()
