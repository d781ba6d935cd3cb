"""`blipline sheet` and `blipline compare`: outputs as pages to look through."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import click

from ..image_sources.distinct_files import check_distinct
from ..image_sources.image_bytes import ImageBytes
from ..sheets.comparison import compare as compare_entries
from ..sheets.entry import SheetEntry
from ..sheets.images import ImageFolders, link_to, located_image, thumbnails
from ..sheets.page import SheetData, write_page
from ..sheets.reader import read_entries
from .exit_codes import Exit, warn
from .options import Command
from .output import print_line, replaced_file
from .progress import progress_bar

#: Pixels of a thumbnail's longer side: the largest cards of the page show it without scaling it up.
_SIZE_PX: Final = 320

Thumbnails = Literal["embed", "link"]

_ITEMS_HELP = "The file that was submitted as a batch: it has the images of the results."


@dataclass(frozen=True, slots=True)
class _PageOptions:
    """Options of both commands."""

    html: str
    folders: ImageFolders
    thumbnails: Thumbnails
    size_px: int

    @classmethod
    def of(
        cls,
        html: str,
        folder: str | None,
        outputs: Sequence[str],
        mode: Thumbnails,
        size_px: int,
    ) -> _PageOptions:
        """Look images up in `folder`, then beside the outputs, then in the working directory."""
        beside = [os.path.dirname(os.path.abspath(output)) for output in outputs]
        folders = [*([folder] if folder else []), *beside, os.getcwd()]
        return cls(html, ImageFolders(folders), mode, size_px)


def _page_options(command: Command) -> Command:
    options: list[Callable[[Command], Command]] = [
        click.option("-o", "--output", "html", metavar="PAGE.html", help="Name of the page."),
        click.option("--images", "folder", metavar="FOLDER", help="Folder of the images."),
        click.option("--title", help="Title of the page; by default the name of the output."),
        click.option(
            "--thumbnails",
            "thumbnail_mode",
            type=click.Choice(["embed", "link"]),
            default="embed",
            show_default=True,
            help="Embed small JPEGs, or link to the images beside the page.",
        ),
        click.option(
            "--size",
            "size_px",
            type=click.IntRange(32, 2048),
            default=_SIZE_PX,
            show_default=True,
            metavar="PIXELS",
            help="Longer side of an embedded thumbnail.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("output", metavar="OUTPUT", type=click.Path(exists=True))
@click.option("--items", metavar="ITEMS.jsonl", help=_ITEMS_HELP)
@_page_options
def sheet(
    output: str,
    items: str | None,
    html: str | None,
    folder: str | None,
    title: str | None,
    thumbnail_mode: Thumbnails,
    size_px: int,
) -> Exit:
    """Write a page of an output's images with their texts.

    OUTPUT is a file of JSON lines, JSON, CSV, TSV or Parquet, a tar archive, or a folder of images
    with caption files beside them. The page is one HTML file that loads nothing else: search,
    filters, order, keys. Results of a batch name their images only with --items.

    \b
      blipline sheet captions.jsonl
      blipline sheet results.jsonl --items items.jsonl -o sheet.html
      blipline sheet photos/ --thumbnails link
    """
    base = output.rstrip("/") if os.path.isdir(output) else os.path.splitext(output)[0]
    page = html or f"{base}.html"
    check_distinct({"-o": page}, [output, items])
    entries = read_entries(output, items)
    options = _PageOptions.of(page, folder, [output], thumbnail_mode, size_px)

    def data(links: Sequence[str | None]) -> SheetData:
        return SheetData.of_output(title or os.path.basename(base), entries, links)

    return _write(options, entries, data)


@click.command()
@click.argument("first", metavar="A", type=click.Path(exists=True))
@click.argument("second", metavar="B", type=click.Path(exists=True))
@click.option("--items", metavar="ITEMS.jsonl", help=_ITEMS_HELP)
@_page_options
def compare(
    first: str,
    second: str,
    items: str | None,
    html: str | None,
    folder: str | None,
    title: str | None,
    thumbnail_mode: Thumbnails,
    size_px: int,
) -> Exit:
    """Write a page of two outputs side by side, with their differences marked word by word.

    A and B are outputs of two models, precisions or prompts, in any form that `blipline sheet`
    reads. Images belong together if their file names, or else their custom ids, are equal. The
    counts are also printed: name and number, separated by a tab.

    \b
      blipline compare fp16.jsonl int8.jsonl --items items.jsonl -o int8.html
    """
    page = html or "compare.html"
    check_distinct({"-o": page}, [first, second, items])
    pairs = list(compare_entries(read_entries(first, items), read_entries(second, items)))
    names = _names(first, second)
    options = _PageOptions.of(page, folder, [first, second], thumbnail_mode, size_px)

    def data(links: Sequence[str | None]) -> SheetData:
        return SheetData.of_comparison(title or " and ".join(names), names, pairs, links)

    exit_code = _write(options, [pair.entry for pair in pairs], data)
    kinds = [pair.kind for pair in pairs]
    for kind in ("same", "different", "error", "first", "second"):
        print_line(f"{kind}\t{kinds.count(kind)}")
    return exit_code


def _names(first: str, second: str) -> tuple[str, str]:
    """Return the shortest names that differ: of the files, or else their paths."""
    names = os.path.basename(first.rstrip("/")), os.path.basename(second.rstrip("/"))
    return names if names[0] != names[1] else (first, second)


def _write(
    options: _PageOptions,
    entries: Sequence[SheetEntry],
    data: Callable[[Sequence[str | None]], SheetData],
) -> Exit:
    paths = [options.folders.find(entry.image) for entry in entries]
    folder = os.path.dirname(os.path.abspath(options.html))
    links = [link_to(entry.image, path, folder) for entry, path in zip(entries, paths, strict=True)]
    reasons: list[str] = []
    with replaced_file(options.html) as file, progress_bar("thumbnails", len(entries)) as on_done:

        def counted(urls: Iterable[str]) -> Iterator[str]:
            for done, url in enumerate(urls, start=1):
                if url.startswith("!"):
                    reasons.append(url[1:])
                on_done(done)
                yield url

        urls: Any = None
        if options.thumbnails == "embed":
            reader = ImageBytes()
            pairs = (
                (entry.image, path)
                if entry.locator is None
                else located_image(entry.locator, reader)
                for entry, path in zip(entries, paths, strict=True)
            )
            urls = counted(thumbnails(pairs, options.size_px, os.cpu_count() or 1))
        write_page(file, data(links), urls)
        megabytes = file.tell() / 1e6
    warn(f"{options.html}: {len(entries):,} images, {megabytes:.1f} MB")
    if reasons:
        warn(f"{len(reasons):,} of them without a thumbnail, the first: {reasons[0]}")
        if all(entry.image is None and entry.locator is None for entry in entries):
            warn("--items names the file that was submitted, which has the images")
    return Exit.OK
