"""`python -m worker info [MODEL]`: a model's family, tasks and device memory.

Reads the configuration and, of a directory with weights, their names and shapes, not their values.
Exit codes: 0, or 2 if the model or a setting cannot be used.
"""

from __future__ import annotations

import json
import os
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from config.settings import WorkerSettings
from producer.errors import InvalidInput
from worker.engine.errors import LoadError
from worker.hub.files import has_weights
from worker.hub.reference import Snapshot
from worker.hub.resolver import resolve_config

if TYPE_CHECKING:
    import torch

    from worker.models.memory import Estimate
    from worker.models.registry import Family

EXIT_UNUSABLE: Final = 2
UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
CARD_SIZES: Final = ("largest_layer", "total", "training")
CARD_NOTE: Final = (
    "Model cards (accelerate estimate-memory) call 1,024 MB a GB, count a tied head twice and have "
    "no rows; the worker needs the memory of the first table."
)
EPILOG: Final = """examples:
  python -m worker info
  python -m worker info Salesforce/blip2-opt-2.7b --memory 16GB
  python -m worker info /models/blip2 --device cpu --json"""


@dataclass(frozen=True)
class DeviceMemory:
    """The device whose memory the report compares with the model's need."""

    device: torch.device
    free_bytes: int
    name: str


def main(arguments: list[str]) -> int:
    """Print a report about one model; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = WorkerSettings.load(device=options.device)
    except InvalidInput as error:
        return _fail(str(error))
    try:
        snapshot = find_config(options.model, settings)
        facts = describe(snapshot, settings.device, options.memory)
    except LoadError as error:
        return _fail(str(error))
    try:
        print(json.dumps(facts, indent=2) if options.json else report(facts), flush=True)
    except BrokenPipeError:
        # The reader has closed the pipe; the interpreter must not write again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def find_config(model: str | None, settings: WorkerSettings) -> Snapshot:
    """Return a directory with a model's configuration; by default, that of the settings.

    Raises LoadError.
    """
    if model is not None:
        return resolve_config(model, offline=settings.offline)
    own: Any = next(iter(settings.checkpoints()), (settings.model,))
    return resolve_config(*own, offline=settings.offline)


def describe(snapshot: Snapshot, device: str, memory: int | None = None) -> dict[str, Any]:
    """Return all facts about a model as JSON data; `memory` is another device's free bytes.

    Raises LoadError.
    """
    from worker.models.card_memory import card_estimates
    from worker.models.checkpoint import load_error, read_config
    from worker.models.lora_weights import count_elements
    from worker.models.memory import estimate_plan
    from worker.models.memory_shapes import skeleton
    from worker.models.precision import make_plan
    from worker.models.registry import GROUPED, PRECISIONS, find_family

    target = _device_memory(device, memory)
    config = read_config(snapshot)
    family = find_family(snapshot.name, config)
    try:
        elements = count_elements(config, snapshot)
        network = skeleton(config)
        plans = [make_plan(network, precision, target.device) for precision in PRECISIONS]
        estimates = [estimate_plan(network, plan, elements) for plan in plans]
        card = [asdict(row) for row in card_estimates(config)]
    except LoadError:
        raise
    except Exception as error:
        raise load_error(snapshot, error) from error
    model_class = getattr(import_module(f"worker.models.{family.module}"), family.class_name)
    # The hub's cache may lack files that the worker downloads.
    if not snapshot.commit and has_weights(path.name for path in snapshot.directory.iterdir()):
        model_class.check_files(snapshot, config)
    is_grouped = family is GROUPED
    return {
        "model": snapshot.title,
        "family": f"{config.architectures[0]}, in groups" if is_grouped else family_name(family),
        "tasks": sorted(model_class.family_tasks(config)),
        # A processor of the model's own resizes images.
        "adapters": [name for name, _ in snapshot.adapters],
        "image_size": None if is_grouped else int(config.vision_config.image_size),
        "parameters": estimates[0].parameters,
        "device": target.name,
        "free_bytes": target.free_bytes,
        "row_tokens": estimates[0].row_tokens,
        "precisions": [_precision_facts(item, target.free_bytes) for item in estimates],
        "model_card": card,
    }


def _precision_facts(estimate: Estimate, free: int) -> dict[str, Any]:
    from worker.models.precision import missing_package

    facts = asdict(estimate)
    for common in ("parameters", "row_tokens"):
        del facts[common]
    package = missing_package(estimate.precision)
    return {
        **facts,
        "rows": estimate.rows(free),
        "fits": package is None and estimate.least_bytes <= free,
        "missing_package": package,
    }


def _device_memory(device: str, memory: int | None) -> DeviceMemory:
    import torch

    from worker.engine.device import free_bytes, pick_device

    if memory is not None:
        kind = "cpu" if device == "cpu" else "cuda"
        name = f"{'CPU' if kind == 'cpu' else 'GPU'} with {_format_bytes(memory)}"
        return DeviceMemory(torch.device(kind), memory, name)
    picked = pick_device(device)
    free = free_bytes(picked)
    return DeviceMemory(picked, free, f"{picked}, {_format_bytes(free)} free")


def family_name(family: Family) -> str:
    """Return a readable name: `Blip2ForConditionalGeneration` with `opt` is BLIP-2 with OPT."""
    kind, _, purpose = family.architecture.partition("For")
    name = kind.replace("Blip", "BLIP").replace("BLIP2", "BLIP-2")
    if family.language:
        return f"{name} with {family.language.upper()}"
    words = re.findall("[A-Z][a-z]+", purpose)
    return f"{name} for {' '.join(words).lower()}"


def report(facts: dict[str, Any]) -> str:
    """Return the facts as text, with a table of precisions."""
    lines = [
        f"model       {facts['model']}",
        f"family      {facts['family']}",
        f"tasks       {', '.join(facts['tasks'])}",
        *([f"adapters    {', '.join(facts['adapters'])}"] if facts["adapters"] else []),
        f"image size  {image_size(facts['image_size'])}",
        f"parameters  {facts['parameters']:,}",
        f"device      {facts['device']}",
        "",
    ]
    table = [["precision", "weights", "row", "rows that fit", "fits"]]
    table += [
        [
            row["precision"],
            _format_bytes(row["weight_bytes"] + row["copy_bytes"] + row["adapter_bytes"]),
            _format_bytes(row["row_bytes"]) if row["row_bytes"] else "-",
            "-" if row["rows"] is None else f"{row['rows']:,}",
            "yes" if row["fits"] else "no",
        ]
        for row in facts["precisions"]
    ]
    tokens = facts["row_tokens"]
    note = f"A row is an image with a text: its KV cache of {tokens} tokens and of its source."
    if facts["image_size"] is None:
        least = min(row["token_bytes"] for row in facts["precisions"])
        note = f"Rows run in groups; each of a row's tokens takes {_format_bytes(least)} or more."
    card = [["model card", "largest layer", "total", "training, Adam"]]
    card += [
        [row["dtype"], *(_format_bytes(row[f"{name}_bytes"], 1024) for name in CARD_SIZES)]
        for row in facts["model_card"]
    ]
    lines += map(_align, table)
    lines += [
        f"{row['precision']} needs the package {row['missing_package']}, which is not installed."
        for row in facts["precisions"]
        if row["missing_package"]
    ]
    lines += ["", note] if tokens or facts["image_size"] is None else []
    return "\n".join([*lines, *(["", *map(_align, card), "", CARD_NOTE] if card[1:] else [])])


def image_size(side: int | None) -> str:
    """Return the side of a square input as text."""
    return f"{side} x {side}" if side else "in its own proportions"


def _align(cells: list[str]) -> str:
    first, *others = cells
    return f"{first:<16}" + "".join(f"{cell:>15}" for cell in others)


def _format_bytes(count: int, base: int = 1000) -> str:
    """Format a number of bytes in units of 1,000, or, as model cards, of 1,024."""
    for power, unit in reversed(list(enumerate(UNITS))):
        if count >= base**power:
            digits = 2 if base == 1024 or unit in ("G", "T") else 0
            return f"{count / base**power:.{digits}f} {unit}B"
    return "0 B"


def memory_size(text: str) -> int:
    """Parse `24GB`, `24 GiB` or a number of bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if not match:
        raise ArgumentTypeError(f"{text!r} is not an amount of memory; write 24GB or 16GiB")
    number, unit, binary = match.groups()
    power = list(UNITS).index(unit.upper())
    return int(float(number) * (1024 if binary else 1000) ** power)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m worker info",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", help="directory or hub name [BLIPLINE_MODEL]")
    parser.add_argument("--device", metavar="VALUE", help="auto, cpu or cuda [BLIPLINE_DEVICE]")
    parser.add_argument(
        "--memory",
        type=memory_size,
        metavar="SIZE",
        help="free memory of another device, such as 24GB",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _fail(message: str) -> int:
    print(f"worker info: {message}", file=sys.stderr)
    return EXIT_UNUSABLE
