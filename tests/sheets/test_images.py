"""Thumbnails are small upright JPEGs; a file that has none names the reason."""

from __future__ import annotations

import base64
import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from producer.errors import InvalidInput
from producer.sheets.images import ImageFolders, link_to, thumbnails


def decoded(url: str) -> Image.Image:
    assert url.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def thumbnail_of(path: Path, size_px: int = 64) -> str:
    (url,) = thumbnails([(path.name, str(path))], size_px, 1)
    return url


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "CMYK", "I;16", "1"])
def test_an_image_of_any_mode_has_a_small_thumbnail(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new(mode, (300, 150)).save(path)
    assert decoded(thumbnail_of(path)).size == (64, 32)


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (400, 200)).save(path, exif=exif)
    assert decoded(thumbnail_of(path)).size == (32, 64)


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGBA", (100, 100), (255, 0, 0, 0)).save(path)
    assert decoded(thumbnail_of(path)).getpixel((5, 5)) == (255, 255, 255)


def test_files_without_a_thumbnail_name_the_reason(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    postscript = tmp_path / "program.jpg"
    postscript.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    big = tmp_path / "big.png"
    Image.new("1", (20_000, 6_000)).save(big)
    pairs = [
        (None, None),
        ("gone.jpg", None),
        ("https://example.com/a.jpg", None),
        ("data:image/png;base64,!", None),
        *((path.name, str(path)) for path in (text, postscript, big)),
    ]
    reasons = list(thumbnails(pairs, 64, 2))
    assert all(reason.startswith("!") for reason in reasons)
    assert "names no image" in reasons[0]
    assert "no file" in reasons[1]
    assert "not a local file" in reasons[2]
    assert "not a readable image" in reasons[4]
    assert "not a readable image" in reasons[5]
    assert "pixels" in reasons[6]


def test_threads_share_the_filter_of_warnings(tmp_path: Path) -> None:
    big, small = tmp_path / "big.png", tmp_path / "small.png"
    Image.new("1", (20_000, 6_000)).save(big)
    Image.new("RGB", (9, 9)).save(small)
    pairs = [(path.name, str(path)) for path in [big, small] * 100]
    reasons = list(thumbnails(pairs, 64, 4))[::2]
    assert {reason.partition(" than")[0] for reason in reasons} == {"!more"}


def test_a_data_url_has_a_thumbnail() -> None:
    file = io.BytesIO()
    Image.new("RGB", (90, 90)).save(file, "PNG")
    image = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    (url,) = thumbnails([(image, None)], 45, 1)
    assert decoded(url).size == (45, 45)


def test_thumbnails_keep_the_order_of_their_images(tmp_path: Path) -> None:
    paths = []
    for width in range(1, 60):
        paths.append(tmp_path / f"{width}.png")
        Image.new("RGB", (width, 1)).save(paths[-1])
    urls = thumbnails(((path.name, str(path)) for path in paths), 64, 4)
    assert [decoded(url).width for url in urls] == list(range(1, 60))


def test_an_image_is_looked_up_in_each_folder(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    file = tmp_path / "second" / "a.jpg"
    file.touch()
    folders = ImageFolders([str(tmp_path), str(tmp_path / "second")])
    assert (
        folders.find("a.jpg") == folders.find("file:a.jpg") == folders.find(str(file)) == str(file)
    )
    assert folders.find("b.jpg") is folders.find(None) is folders.find("https://a/a.jpg") is None


def test_links_are_relative_and_quoted() -> None:
    assert link_to("x", "/data/a b/#1?.jpg", "/data/pages") == "../a%20b/%231%3F.jpg"
    assert link_to("x", os.fsdecode(b"/d/\xff.jpg"), "/d") == "%FF.jpg"


@pytest.mark.parametrize(
    ("image", "link"),
    [
        ("https://a.example/x.jpg", "https://a.example/x.jpg"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        (None, None),
    ],
)
def test_only_http_urls_are_links(image: str | None, link: str | None) -> None:
    assert link_to(image, None, "/") == link


def test_thumbnails_without_pillow_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InvalidInput, match=r"pip install '\.\[sheet\]'"):
        list(thumbnails([], 64, 1))
