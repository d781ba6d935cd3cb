"""Captions in EXIF and XMP: read back by Pillow, pixels unchanged, other metadata kept."""

from __future__ import annotations

import io
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from producer.capfilt.texts import texts_of
from producer.cli.exit_codes import Exit
from producer.errors import InvalidInput
from producer.evaluation.caption_rows import caption_rows
from producer.image_sources.descriptions import xmp
from producer.image_sources.descriptions.containers import describe, description_of
from producer.image_sources.folders import folder_pictures
from producer.sheets.reader import read_entries
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, captions, text_of

TEXT = 'a "cat" & <dog>, 猫 \U0001f431\nsecond line'
FORMATS = ["JPEG", "PNG", "WEBP"]


def encoded(form: str, mode: str = "RGB", **options: Any) -> bytes:
    """Return an image file."""
    file = io.BytesIO()
    source = Image.radial_gradient("L").resize((33, 21)).convert(mode)
    source.save(file, form, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    """Return a decoded image; Pillow checks the checksums."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize(
    ("form", "mode"),
    # JPEG has no alpha.
    [pair for pair in product(FORMATS, ("RGB", "RGBA", "L")) if pair != ("JPEG", "RGBA")],
)
def test_pillow_reads_the_description_and_the_same_pixels(form: str, mode: str) -> None:
    before = encoded(form, mode)
    after = describe(before, TEXT)
    image = opened(after)
    assert image.tobytes() == opened(before).tobytes()
    assert image.getexif()[0x010E].encode("latin-1").decode().rstrip() == TEXT
    assert description_of(after) == TEXT
    assert b"second line</rdf:li>" in image.info["xmp"]
    assert description_of(before) is None
    # A second description replaces the first.
    assert description_of(describe(after, "b")) == "b"
    assert len(describe(after, TEXT)) < len(after) + 1000


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_other_metadata_stays(form: str, order: bytes) -> None:
    exif = Image.Exif()
    exif.endian = "<" if order == b"II" else ">"
    exif[0x010F] = "a camera"
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x927C] = b"a note of the maker"
    packet = xmp.with_description(None, "old").replace(
        b"<rdf:Description", b'<rdf:Description xmlns:lr="http://lr/" lr:rating="5"', 1
    )
    options: dict[str, Any] = (
        {"exif": exif.tobytes(), "xmp": packet} if form != "PNG" else {"exif": exif.tobytes()}
    )
    data = encoded(form, **options)
    if form == "JPEG":
        data = data[:2] + b"\xff\xe1" + (31 + len(packet)).to_bytes(2, "big") + (
            b"http://ns.adobe.com/xap/1.0/\0" + packet
        ) + data[2:]  # fmt: skip
    after = opened(describe(data, TEXT))
    assert (after.getexif()[0x010F], after.getexif()[0x0112]) == ("a camera", 6)
    assert after.getexif().get_ifd(0x8769)[0x927C] == b"a note of the maker"
    if form != "PNG":
        assert re.search(rb'lr:rating="5"', describe(data, TEXT))


def test_damaged_files_and_other_formats_are_rejected() -> None:
    jpeg = encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    for data in (jpeg, encoded("GIF"), b"\xff\xd8\xff", encoded("PNG")[:60], b"RIFF\0\0\0\0WEBP"):
        with pytest.raises(ValueError, match=r"\w"):
            describe(data, TEXT)


@pytest.mark.parametrize("form", FORMATS)
def test_copies_get_the_description_by_default(
    responder: Responder, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "p" / "deep" / "a.img.PNG"
    path.parent.mkdir(parents=True)
    path.write_bytes(encoded(form))
    assert annotate("p", "--embed") == Exit.USAGE
    for _ in range(2):
        assert annotate("p", "--embed", "-o", "out") == Exit.OK
    assert description_of((tmp_path / "out/deep/a.img.PNG").read_bytes()) == text_of(path)
    assert path.read_bytes() == encoded(form)
    assert responder.answers == 1


def test_the_files_themselves_are_changed_on_demand_and_once(
    responder: Responder, tmp_path: Path
) -> None:
    path = tmp_path / "p" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(encoded("JPEG"))
    (tmp_path / "p" / "b.gif").write_bytes(encoded("GIF"))
    expected = text_of(path)
    for _ in range(2):
        assert annotate("p", "--embed", "--in-place") == Exit.SOME_FAILED
        assert description_of(path.read_bytes()) == expected
    assert responder.answers == 2
    assert captions(tmp_path / "p") == {}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("description", "is_caption"),
    [("a cat by Ada", True), ("OLYMPUS DIGITAL CAMERA         ", False), ("  ", False)],
)
def test_a_description_of_exif_is_a_caption_unless_a_camera_wrote_it(
    responder: Responder, tmp_path: Path, form: str, description: str, is_caption: bool
) -> None:
    exif = Image.Exif()
    exif[0x010E] = description
    path = tmp_path / "p" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(before := encoded(form, exif=exif.tobytes()))
    text = text_of(path)
    assert annotate("p", "--embed", "--in-place") == Exit.OK
    if is_caption:
        assert path.read_bytes() == before
        assert annotate("p", "--embed", "--in-place", "--existing", "append") == Exit.OK
        text = f"{description}, {text}"
    assert description_of(path.read_bytes()) == text


@pytest.mark.parametrize("form", FORMATS)
def test_other_commands_read_a_description_unless_a_caption_file_is_there(
    form: str, tmp_path: Path
) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    for name in ("own", "other"):
        (folder / f"{name}.{form.lower()}").write_bytes(describe(encoded(form), TEXT))
    (folder / f"plain.{form.lower()}").write_bytes(encoded(form))
    (folder / "other.txt").write_text("written by hand\n")
    names = {name: f"{name}.{form.lower()}" for name in ("other", "own")}
    shown = {entry.name: entry.text for entry in read_entries(str(folder))}
    assert shown == {names["other"]: "written by hand", names["own"]: TEXT}
    assert dict(caption_rows(str(folder))) == {
        "other": ["written by hand"],
        "own": TEXT.split("\n"),
    }
    pictures = {p.name: p for p in folder_pictures(str(folder))}
    assert texts_of(pictures[names["own"]], None) == TEXT.split("\n")
    assert texts_of(pictures[names["other"]], None) == ["written by hand"]
    with pytest.raises(InvalidInput, match="beside the image, and no description in it"):
        texts_of(pictures[f"plain.{form.lower()}"], None)
