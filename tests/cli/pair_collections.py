"""Collections of image-text pairs in all forms, and the pairs that a worker receives of each."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import fsspec
import pyarrow as arrow
import pyarrow.parquet as parquet

from tests.annotate.sample_collections import image_bytes
from tests.cli.shell import URL

FIRST, SECOND = image_bytes(1), image_bytes(2)
#: Texts; the workers' probability is the number at their end.
ONE, TWO, THREE = "a cat 90", "a dog 80", "ein Häuschen, 70"


class Expected(NamedTuple):
    """A pair as a worker receives it, and its name in the output."""

    name: str
    image: bytes | str
    texts: Sequence[str]
    custom_id: str | None = None


def write(path: str, data: bytes | str) -> str:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def write_tar(path: str, members: Mapping[str, bytes]) -> str:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return write(path, file.getvalue())


def write_parquet(path: str, rows: list[dict[str, Any]]) -> str:
    # Several row groups, so that cells are read from each.
    parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=1)
    return path


def pictures(folder: str = "data") -> None:
    write(f"{folder}/a.png", FIRST)
    write(f"{folder}/deep/b c.png", SECOND)


def folder_of_caption_files() -> tuple[list[str], list[Expected]]:
    pictures()
    write("data/a.txt", f"\ufeff{ONE}\r\n\n {THREE}\n")
    write("data/deep/b c.caption", TWO)
    write("data/notes.md", "no picture")
    return ["data"], [
        Expected("a.png", FIRST, [ONE, THREE]),
        Expected("deep/b c.png", SECOND, [TWO]),
    ]


def two_folders() -> tuple[list[str], list[Expected]]:
    for folder, image in (("one", FIRST), ("two", SECOND)):
        write(f"{folder}/a.png", image)
        write(f"{folder}/a.txt", ONE)
    return ["one", "two/"], [
        Expected("one/a.png", FIRST, [ONE]),
        Expected("two/a.png", SECOND, [ONE]),
    ]


def pattern_with_caption_files_of_two_formats() -> tuple[list[str], list[Expected]]:
    write("data/a.jpg", FIRST)
    write("data/a.png", SECOND)
    write("data/a.txt", ONE)
    write("data/a.png.txt", TWO)
    return ["data/*"], [
        Expected("data/a.jpg", FIRST, [ONE]),
        Expected("data/a.png", SECOND, [TWO]),
    ]


def json_lines_of_paths_urls_and_lists() -> tuple[list[str], list[Expected]]:
    pictures()
    rows = [
        {"image": "a.png", "text": ONE},
        {"image": URL, "caption": TWO, "custom_id": "x"},
        {"image": "deep/b c.png", "captions": [ONE, THREE]},
        # `blipline annotate` writes the first of several captions as `text` too.
        {"image": "a.png", "text": ONE, "texts": [ONE, TWO]},
    ]
    write("data/pairs.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    return ["data/pairs.jsonl"], [
        Expected("a.png", FIRST, [ONE], "1"),
        Expected(URL, URL, [TWO], "x"),
        Expected("deep/b c.png", SECOND, [ONE, THREE], "3"),
        Expected("a.png", FIRST, [ONE, TWO], "4"),
    ]


def json_lines_without_a_suffix() -> tuple[list[str], list[Expected]]:
    write("pairs", json.dumps({"image": URL, "text": ONE}))
    return ["pairs"], [Expected(URL, URL, [ONE], "1")]


def image_folder_metadata() -> tuple[list[str], list[Expected]]:
    pictures("data/train")
    rows = [
        {"file_name": "train/a.png", "text": ONE},
        {"file_name": "train/deep/b c.png", "text": TWO},
    ]
    write("data/metadata.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    return ["data/metadata.jsonl"], [
        Expected("train/a.png", FIRST, [ONE], "1"),
        Expected("train/deep/b c.png", SECOND, [TWO], "2"),
    ]


def csv_table() -> tuple[list[str], list[Expected]]:
    pictures()
    write("data/pairs.csv", f'path,caption,more\na.png,"{THREE}",x\n{URL},{TWO},\n')
    return ["data/pairs.csv"], [
        Expected("a.png", FIRST, [THREE], "1"),
        Expected(URL, URL, [TWO], "2"),
    ]


def tsv_table_with_named_columns() -> tuple[list[str], list[Expected]]:
    pictures()
    write("data/pairs.tsv", f"text\tmine\tpicture\n-\t{ONE}\ta.png\n")
    return ["data/pairs.tsv", "--text-column", "mine", "--image-column", "picture"], [
        Expected("a.png", FIRST, [ONE], "1")
    ]


def parquet_of_urls_as_laion() -> tuple[list[str], list[Expected]]:
    rows = [{"SAMPLE_ID": 1, "URL": URL, "TEXT": ONE}, {"SAMPLE_ID": 2, "URL": URL, "TEXT": TWO}]
    return [write_parquet("laion.parquet", rows)], [
        Expected(URL, URL, [ONE], "1"),
        Expected(URL, URL, [TWO], "2"),
    ]


def parquet_of_img2dataset() -> tuple[list[str], list[Expected]]:
    rows = [
        {"url": URL, "caption": text, "key": key, "status": "success", "jpg": image}
        for text, key, image in ((ONE, "000000000", FIRST), (TWO, "000000001", SECOND))
    ]
    return [write_parquet("00000.parquet", rows)], [
        Expected("000000000", FIRST, [ONE], "1"),
        Expected("000000001", SECOND, [TWO], "2"),
    ]


def parquet_shards_of_hugging_face() -> tuple[list[str], list[Expected]]:
    for number, (image, texts) in enumerate(((FIRST, [ONE, THREE]), (SECOND, [TWO]))):
        image_cell = {"bytes": image, "path": "x.png"}
        write_parquet(f"train-{number}.parquet", [{"image": image_cell, "caption": texts}])
    return ["train-*.parquet"], [
        Expected("train-0.parquet/x.png", FIRST, [ONE, THREE], "1"),
        Expected("train-1.parquet/x.png", SECOND, [TWO], "1"),
    ]


def parquet_of_hugging_face_without_bytes() -> tuple[list[str], list[Expected]]:
    pictures()
    cells = [{"bytes": None, "path": "a.png"}, {"bytes": SECOND, "path": "a.png"}]
    rows = [{"image": cell, "caption": text} for cell, text in zip(cells, (ONE, TWO), strict=True)]
    return [write_parquet("data/train.parquet", rows)], [
        Expected("00000000", FIRST, [ONE], "1"),
        Expected("00000001", SECOND, [TWO], "2"),
    ]


def parquet_of_annotate_with_several_captions() -> tuple[list[str], list[Expected]]:
    pictures()
    rows = [{"file_name": "data/a.png", "text": ONE, "texts": json.dumps([ONE, TWO])}]
    return [write_parquet("captions.parquet", rows)], [
        Expected("data/a.png", FIRST, [ONE, TWO], "1")
    ]


def archive_of_img2dataset() -> tuple[list[str], list[Expected]]:
    members = {}
    for key, image, text in (("000000000", FIRST, THREE), ("000000001", SECOND, TWO)):
        columns = {"url": URL, "caption": "another", "key": key, "status": "success"}
        members[f"{key}.jpg"] = image
        members[f"{key}.txt"] = text.encode()
        members[f"{key}.json"] = json.dumps(columns).encode()
    return [write_tar("00000.tar", members)], [
        Expected("000000000.jpg", FIRST, [THREE]),
        Expected("000000001.jpg", SECOND, [TWO]),
    ]


def archives_with_texts_in_json() -> tuple[list[str], list[Expected]]:
    for number, image in enumerate((FIRST, SECOND)):
        members = {"x/0.png": image, "x/0.json": json.dumps({"caption": ONE}).encode()}
        write_tar(f"{number}.tar", members)
    return ["0.tar", "1.tar"], [
        Expected("0.tar/x/0.png", FIRST, [ONE]),
        Expected("1.tar/x/0.png", SECOND, [ONE]),
    ]


def store_prefix_with_caption_objects() -> tuple[list[str], list[Expected]]:
    store = fsspec.filesystem("memory")
    objects = {"a.png": FIRST, "a.txt": f"{ONE}\n{TWO}".encode(), "deep/b.png": SECOND}
    objects["deep/b.caption"] = THREE.encode()
    for name, data in objects.items():
        store.pipe_file(f"/capfilt/{name}", data)
    return ["memory://capfilt"], [
        Expected("a.png", FIRST, [ONE, TWO]),
        Expected("deep/b.png", SECOND, [THREE]),
    ]


def store_pattern_with_caption_objects() -> tuple[list[str], list[Expected]]:
    store = fsspec.filesystem("memory")
    objects = {"a.png": FIRST, "a.png.txt": ONE.encode(), "b.png": SECOND, "b.caption": b"b 99"}
    for name, data in (objects | {"c.jpg": SECOND}).items():
        store.pipe_file(f"/pattern/{name}", data)
    return ["memory://pattern/*.png"], [
        Expected("/pattern/a.png", FIRST, [ONE]),
        Expected("/pattern/b.png", SECOND, ["b 99"]),
    ]


def store_objects_in_a_table() -> tuple[list[str], list[Expected]]:
    fsspec.filesystem("memory").pipe_file("/table/a.png", FIRST)
    write("pairs.jsonl", json.dumps({"image": "memory://table/a.png", "text": ONE}))
    return ["pairs.jsonl"], [Expected("memory://table/a.png", FIRST, [ONE], "1")]


#: Functions that write a collection and return the arguments of the command and the pairs.
COLLECTIONS: Final[Sequence[Callable[[], tuple[list[str], list[Expected]]]]] = (
    folder_of_caption_files,
    two_folders,
    pattern_with_caption_files_of_two_formats,
    json_lines_of_paths_urls_and_lists,
    json_lines_without_a_suffix,
    image_folder_metadata,
    csv_table,
    tsv_table_with_named_columns,
    parquet_of_urls_as_laion,
    parquet_of_img2dataset,
    parquet_shards_of_hugging_face,
    parquet_of_hugging_face_without_bytes,
    parquet_of_annotate_with_several_captions,
    archive_of_img2dataset,
    archives_with_texts_in_json,
    store_prefix_with_caption_objects,
    store_pattern_with_caption_objects,
    store_objects_in_a_table,
)
