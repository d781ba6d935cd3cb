"""The key of kept answers and features: everything that determines an answer, and nothing else."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import ImageFile

from config.settings import WorkerSettings
from producer.contract import Item, Options, Task
from producer.net.address_policy import AddressPolicy
from producer.settings import ClientSettings
from worker.consumer import result_cache
from worker.consumer.chunk_options import ChunkOptions, read_options
from worker.consumer.pending import PendingItem, adapter_of, image_requests
from worker.consumer.result_cache import ResultCache
from worker.consumer.validation import CheckedItem, check_item
from worker.engine.client import EngineClient
from worker.engine.frame import Frame
from worker.engine.protocol import AdapterInfo, EngineInfo, ModelInfo
from worker.engine.request import GenerationOptions
from worker.images import loader
from worker.images.fetcher import Fetcher
from worker.images.loader import ImageLoader, ImageRequest
from worker.software import software

BLOB = "blob:" + "5" * 64
MODEL = ModelInfo("model", "revision", 32, 3, ("caption",))
#: Settings in the revision of a model (worker/models/revision.py).
IN_REVISION = {
    *("model", "model_revision", "adapter", "match_model", "precision", "device"),
    # Those of items, in the revision of the item (test_an_adapter_…)
    "adapters",
    "vqa_template",
}
#: Settings in the key of an image's pixels (ImageLoader), and how a consumer passes them on.
IN_PIXELS = {
    "jpeg_draft": 2,
    "truncated_images": "accept",
    "max_image_pixels": 5000,
    "max_image_bytes": 2000,
}
#: Settings in the identity of the language model that polishes descriptions.
IN_POLISHER = {"polish_url": "http://host/v1", "polish_model": "small"}
#: Settings with which an equal request gets an equal answer, or none.
IRRELEVANT = {
    # Which rows run together and how fast; in half precision their rounding differs as it does
    # from batch to batch.
    *("max_rows", "cuda_graphs", "cpu_threads", "feature_cache_mb", "image_memory_mb"),
    *(
        # The device itself is in the revision.
        "devices",
        "interactive_slots",
        "bulk_slots",
        "answer_cache_s",
        "answer_cache_mb",
        "step_timeout_s",
        "engine_wait_s",
    ),
    # They are the `image_size` and the `image_backend` of a model, which are in the key of its
    # pixels.
    *("image_side", "image_backend"),
    # Which images may be fetched: the key has the bytes of the image.
    *("image_root", "fetch_timeout_s", "fetch_per_host", "fetch_allow", "fetch_deny"),
    *("fetch_only", "fetch_stores"),
    # Where the files come from: the revision has their bytes.
    "offline",
    # The queue and the processes.
    *("lease_s", "visibility_timeout_s", "sweep_s", "grace_s", "ready_file", "metrics_port"),
    *("run_dir", "default_queue", "polish_key", "log_format", "log_level"),
}
#: Settings of the client, which choose the Redis and its keys.
CLIENT = set(ClientSettings.model_fields)


def test_every_setting_is_in_the_key_or_irrelevant() -> None:
    listed = [*IN_REVISION, *IN_PIXELS, *IN_POLISHER, *IRRELEVANT, *CLIENT]
    assert len(listed) == len(set(listed)), "a setting is listed twice"
    unlisted = set(WorkerSettings.model_fields) - set(listed)
    assert not unlisted, "list it above; if it changes answers, add it to the key"
    assert set(listed) <= set(WorkerSettings.model_fields)


def pixels_hash(
    model: ModelInfo = MODEL, image: str = BLOB, adapter: str = "", **changes: Any
) -> str | None:
    """Return the key of an image for a consumer with changed settings."""
    settings = WorkerSettings(**changes)
    fetcher = Fetcher(
        redis.Redis(),
        image_root=None,
        max_bytes=settings.max_image_bytes,
        timeout_s=1,
        policy=AddressPolicy(),
    )
    info = EngineInfo(1, (model,))
    images = ImageLoader(
        fetcher,
        EngineClient(Path("none"), 1),
        info,
        settings.max_image_pixels,
        settings.jpeg_draft,
        accepts_truncated=settings.truncated_images == "accept",
    )
    try:
        return images.known_hash(ImageRequest(image, model, adapter))
    finally:
        fetcher.close()


def test_each_setting_of_the_pixels_changes_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    # One of the settings changes Pillow in the whole process; restored after the test
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    keys = [pixels_hash(), pixels_hash(image="blob:" + "6" * 64)]
    keys += [pixels_hash(MODEL, BLOB, "", **{name: value}) for name, value in IN_PIXELS.items()]
    keys += [pixels_hash(replace(MODEL, image_size=48)), pixels_hash(replace(MODEL, resample=2))]
    keys += [pixels_hash(replace(MODEL, frame=Frame(32, 32, resize))) for resize in (None, 32, 40)]
    keys.append(pixels_hash(replace(MODEL, keeps_proportions=True)))
    keys.append(pixels_hash(replace(MODEL, image_backend="torchvision")))
    assert pixels_hash() == keys[0]
    monkeypatch.setattr(loader, "software", lambda: software() | {"pillow": "99"})
    keys.append(pixels_hash())
    assert len(set(keys)) == 9 + len(IN_PIXELS) + 1
    # A remote image is known after its fetch; an item without one has no pixels
    assert pixels_hash(image="http://host/a.jpg") is None
    assert pixels_hash(image="") == ""


def key(item: CheckedItem, options: ChunkOptions, pixels: str = "p", revision: str = "r") -> Any:
    return ResultCache(redis.Redis(), 60).key(item, pixels, options.of_item(item), revision)


def checked(task: Task, **fields: Any) -> CheckedItem:
    return check_item(task, {"image": BLOB, **fields})


def test_sampled_captions_of_capfilt_are_not_cached_unless_they_have_a_seed() -> None:
    greedy, seeded = (read_options(options, False, 0.0) for options in ({}, {"seed": 1}))
    generating = checked(Task.CAPFILT, texts=["x"])
    assert key(generating, greedy) is None
    assert key(generating, seeded) != key(checked(Task.CAPFILT, texts=["y"]), seeded)
    assert key(checked(Task.CAPFILT, texts=["x"], captions=0), greedy) is not None


def test_each_field_of_an_item_changes_the_key_or_is_irrelevant() -> None:
    options = read_options({}, False, 0.0)
    turns = [{"question": "q", "answer": "a"}]
    items = [
        checked(Task.CAPTION),
        checked(Task.CAPTION, prompt="x"),
        checked(Task.VQA, question="x"),
        checked(Task.VQA, question="x", answers=["y"]),
        checked(Task.VQA, question="x", answers=["y", "z"]),
        checked(Task.CHAT, question="x"),
        checked(Task.CHAT, question="x", history=turns),
        checked(Task.MATCH, texts=["x"]),
        checked(Task.MATCH, texts=["x", "y"]),
        checked(Task.EMBED),
        check_item(Task.EMBED, {"text": "x"}),
        checked(Task.DESCRIBE),
        checked(Task.DESCRIBE, prompts=["x"]),
        checked(Task.DESCRIBE, detail="low"),
        checked(Task.CAPFILT, texts=["x"], captions=0),
        checked(Task.CAPFILT, texts=["x"], captions=0, threshold=0.6),
        checked(Task.CAPFILT, texts=["x"], captions=0, synthetic_threshold=0.6),
        checked(Task.CAPTION, options={"max_new_tokens": 5}),
    ]
    assert len({key(item, options) for item in items}) == len(items)
    # `image` is in the key of its pixels; an item with an error has no answer
    # and `adapter` in the revision of the item, as the next test shows
    irrelevant, tried = {"image", "custom_id", "error", "adapter"}, {"task"}
    tried |= {name for item in items for name in item.item.model_fields_set}
    assert set(Item.model_fields) == tried | irrelevant
    named = checked(Task.CAPTION, custom_id="name")
    assert key(named, options) == key(items[0], options)


def test_an_adapter_changes_the_revision_and_if_it_sees_images_their_key() -> None:
    adapters = (AdapterInfo("red", "v1", False), AdapterInfo("blue", "v2", True))
    model = replace(MODEL, adapters=adapters)
    keys, revisions = [], []
    for name in (None, "red", "blue"):
        item = checked(Task.CAPTION, adapter=name)
        adapter = adapter_of(item, model)
        requests = image_requests(item, {"caption": model}, adapter)
        keys.append(pixels_hash(model, adapter=requests["caption"].adapter))
        revisions.append(PendingItem(item, requests, GenerationOptions(), adapter).revision)
    assert keys[0] == keys[1] != keys[2]
    assert keys[0] == pixels_hash()
    assert revisions == ["revision", "revision v1", "revision v2"]


def another(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    return (*value, "x") if isinstance(value, tuple) else value + 1


def test_each_option_changes_the_key_or_is_irrelevant() -> None:
    item = checked(Task.CAPTION)
    default = GenerationOptions(temperature=0.5, seed=1, max_length=9)
    values = {field.name: getattr(default, field.name) for field in fields(default)}
    changed = {name: another(value) for name, value in values.items()}
    options = [default, *(replace(default, **{name: v}) for name, v in changed.items())]
    keys = [key(item, ChunkOptions(each, None, False)) for each in options]
    assert len(set(keys)) == len(fields(GenerationOptions)) + 1
    # The temperature follows from `do_sample`; the engine sets the tokens of words
    of_contract = set(Options.model_fields) - {"deadline", "do_sample", "stream"}
    assert set(asdict(default)) - {"bad_word_ids"} == of_contract
    sampled, greedy = (read_options({"do_sample": flag}, False, 0.0) for flag in (True, False))
    assert sampled.decoding == GenerationOptions(temperature=1.0)
    assert greedy.decoding == GenerationOptions()
    late = ChunkOptions(default, 1.0, interactive=True)
    assert key(item, late) == keys[0]


def test_pixels_revision_and_software_change_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    item, options = checked(Task.CAPTION), read_options({}, False, 0.0)
    keys = {key(item, options), key(item, options, pixels="q"), key(item, options, revision="s")}
    monkeypatch.setattr(result_cache, "software", lambda: software() | {"blipline": "99"})
    keys.add(key(item, options))
    assert len(keys) == 4
