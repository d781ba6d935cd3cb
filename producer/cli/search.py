"""`blipline index` and `blipline search`: a search index of a collection of images."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..client import Client
from ..image_sources.distinct_files import check_distinct
from ..quantity import quantity
from . import options
from .exit_codes import Exit, warn
from .failures import FailureLines, warn_if_empty
from .hits_sheet import write_hits
from .output import print_json, print_line
from .progress import UPDATE_S, watch_bar
from .single_jobs import escape_controls, image_source, one_line, printable

if TYPE_CHECKING:
    from ..search.counts import IndexCounts
    from ..search.hit import Hit

#: Failed entries with a line of their own; the others are counted.
MAX_WARNINGS = 20
_INDEX_HELP = "Folder of the index.  [default: .blipline-index]"

_folder = click.option(
    "--index", "folder", metavar="FOLDER", default=".blipline-index", help=_INDEX_HELP
)


@click.command()
@click.argument("sources", metavar="[COLLECTION]...", nargs=-1)
@_folder
@click.option("--rebuild", is_flag=True, help="Embed everything again, with the worker's model.")
@click.option("--retry-failed", is_flag=True, help="Also submit images that failed for good.")
@click.option(
    "--prune-empty",
    is_flag=True,
    help="Also remove the entries of a collection that has none now, such as an emptied folder.",
)
@click.option(
    "--image-column",
    metavar="NAME",
    help="Column of tables with paths, URLs or bytes; by default the first of image, file_name, "
    "path, url, …",
)
@options.timeout(None, "Seconds to wait for the next result; without it, no limit.")
@options.as_json("Print the counts as a JSON line.")
@options.redis_url
def index(
    sources: Sequence[str],
    folder: str,
    rebuild: bool,
    retry_failed: bool,
    prune_empty: bool,
    image_column: str | None,
    timeout_s: float | None,
    as_json: bool,
    redis_url: str | None,
) -> Exit:
    """Embed a collection of images for `blipline search`.

    A COLLECTION is a folder with its subfolders, a quoted pattern, an image, a URL, a list (.txt
    with a path or URL in each line, .jsonl with {"image"} or, for texts to be found, {"text"}), a
    table (.csv, .tsv, .parquet), a WebDataset (.tar), a prefix of an object store (s3://…), or -
    for a list on stdin. Without any, the collections of the last runs are used.

    Only new and changed files are embedded. Files that are gone leave the index, unless all of a
    collection are gone: then --prune-empty removes them. An interrupted run is continued by the
    same command. The worker needs a retrieval model, set by BLIPLINE_MATCH_MODEL or
    BLIPLINE_MODEL.

    \b
      blipline index photos
      blipline index photos "scans/**/*.png" captions.jsonl --index archive.index
      find . -name '*.jpg' -newer stamp | blipline index -
      blipline index                                     # again: what is new or changed
    """
    from ..search.update import UpdateOptions

    failures = FailureLines(MAX_WARNINGS)
    with Client(redis_url) as client, watch_bar("indexing") as on_progress:
        reported_s = 0.0

        def report(counts: IndexCounts) -> None:
            nonlocal reported_s
            if time.monotonic() - reported_s < UPDATE_S:
                return
            reported_s = time.monotonic()
            total = counts.embedded + counts.waiting
            on_progress(counts.embedded, total, quantity(counts.entries, "entry"))

        update = UpdateOptions(
            retry_failed,
            "",
            timeout_s,
            image_column=image_column,
            prune_empty=prune_empty,
            on_counts=report,
            on_failure=failures.add,
        )
        try:
            counts = client.index(folder).update(
                *sources,
                rebuild=rebuild,
                options=update,
                on_added=lambda added, total: on_progress(added, total, "building the graph"),
            )
        except KeyboardInterrupt:
            warn("interrupted: the same command continues")
            raise
    failures.end()
    if as_json:
        print_json(counts.to_json())
    else:
        print_line(
            f"{quantity(counts.entries, 'entry')}: {counts.changed:,} new or changed, "
            f"{counts.embedded:,} embedded, {counts.unchanged:,} unchanged; "
            f"{counts.removed:,} removed, {counts.failed:,} failed"
        )
    warn_if_empty(counts.entries + counts.removed + counts.failed, "images")
    return Exit.SOME_FAILED if counts.failed else Exit.OK


@click.command()
@click.argument("text", required=False)
@click.option("--image", metavar="IMAGE", help="Search by an image: a file or a URL.")
@click.option(
    "--find",
    type=click.Choice(["image", "text"]),
    default="image",
    show_default=True,
    help="Kind of the hits.",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Maximum number of hits.",
)
@click.option(
    "--rerank",
    type=click.IntRange(0, 1000),
    metavar="K",
    default=0,
    help="Order the first K hits by the probability that text and image match.",
)
@click.option(
    "--path",
    "paths",
    metavar="GLOB",
    multiple=True,
    help="Only hits whose path matches; may be repeated. * also matches /.",
)
@click.option("--exact", is_flag=True, help="Compare all vectors instead of following the graph.")
@click.option("--html", metavar="FILE", help="Also write the hits as a contact sheet.")
@_folder
@options.timeout(options.ANSWER_TIMEOUT_S, "Seconds to wait for the worker.")
@options.as_json('Print a JSON line for each hit: {"kind", "image" or "text", "cosine", …}.')
@options.redis_url
def search(
    text: str | None,
    image: str | None,
    find: str,
    count: int,
    rerank: int,
    paths: Sequence[str],
    exact: bool,
    html: str | None,
    folder: str,
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
) -> Exit:
    """Find the images of an index that are nearest to a text, or to an image.

    The output is a line for each hit, the best first, with tab-separated fields: with --rerank, the
    probability that text and image match, 0 to 1; the cosine of their embeddings, -1 to 1; the path
    or the text.

    \b
      blipline search "a red circle"
      blipline search "a red circle" --rerank 32 -n 5
      blipline search "a dog" --path "2024/*" | cut -f 2
      blipline search --image cat.jpg --html hits.html
      blipline search --image cat.jpg --find text
    """
    if (text is None) == (image is None):
        raise click.UsageError("search by a TEXT or by --image: give one of them")
    files = [str(path) for path in Path(folder).glob("*")]
    check_distinct({"--html": html}, [image, *files])
    with Client(redis_url) as client:
        hits = client.index(folder).search(
            text,
            image=None if image is None else image_source(image),
            count=count,
            rerank=rerank,
            paths=paths,
            find=find,
            exact=exact,
            timeout=timeout_s,
        )
    for hit in hits:
        if hit.error is not None:
            warn(f"{printable(_shown(hit))}: not re-ranked: {escape_controls(hit.error)}")
        _print_hit(hit, as_json)
    if html is not None:
        write_hits(html, text or f"Like {image}", hits)
    if not hits:
        warn("no hits" + (": no entry matches --path" if paths else ""))
    return Exit.OK


def _print_hit(hit: Hit, as_json: bool) -> None:
    if as_json:
        print_json(hit.to_json())
        return
    scores = [f"{hit.cosine:.4f}"]
    if hit.probability is not None:
        scores.insert(0, f"{hit.probability:.4f}")
    print_line("\t".join([*scores, _shown(hit)]))


def _shown(hit: Hit) -> str:
    """Return the path of a hit, relative if it is below the working directory, or its text."""
    if hit.path is None:
        return one_line(hit.value)
    # Lines and fields stay whole; --json has the path itself.
    relative = os.path.relpath(hit.path)
    return escape_controls(hit.value if relative.startswith("..") else relative)
