"""The tables of `benchmarks.gpu`, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Line = dict[str, Any]
ENGINES = (("engine_graphs", "graphs"), ("engine_plain", "plain"))


def row_table(lines: Sequence[Line]) -> str:
    """Format the table of whole captions."""
    head = (
        "precision",
        "rows",
        "decode steps",
        "engine, images/s",
        "`generate`, images/s",
        "ratio",
        "roofline",
        "share",
        "equal texts",
        "tokens before a difference",
        "peak GiB (engine, `generate`)",
        "warm-up s",
    )
    return table(head, (row for line in in_order(lines) for row in _captions(line)))


def _captions(line: Line) -> Iterable[Sequence[str]]:
    baseline, best = line.get("generate", {}), line["roofline_images_per_s"]
    for name, _ in ENGINES:
        engine = line.get(name)
        if engine is None:
            continue
        yield (
            line["precision"],
            str(line["row_count"]),
            engine["decoding"],
            f"{engine['images_per_s']:.1f}",
            figure(baseline.get("images_per_s")),
            figure(engine.get("ratio"), "{:.2f}"),
            f"{best:.0f}",
            f"{engine['images_per_s'] / best:.0%}",
            figure(engine.get("equal_texts"), "{:.1%}"),
            figure(engine.get("tokens_before_difference"), "{:.1%}"),
            f"{gib(engine)}, {gib(baseline)}",
            f"{engine['warm_s']:.1f}",
        )


def part_table(lines: Sequence[Line]) -> str:
    """Format the table of decode steps and prefills."""
    head = ["precision", "rows"]
    for _, short in ENGINES:
        head += [f"decode step, {short}, ms", f"step in the loop, {short}, ms"]
    head += ["roofline", "prefill, ms", "roofline"]
    return table(head, (_parts(line) for line in in_order(lines)))


def _parts(line: Line) -> Sequence[str]:
    cells = [line["precision"], str(line["row_count"])]
    for name, _ in ENGINES:
        engine = line.get(name, {})
        cells += [milliseconds(engine.get("decode_s")), milliseconds(engine.get("step_s"))]
    for name in ("roofline_step_s", "prefill_s", "roofline_prefill_s"):
        cells.append(milliseconds(line.get(name)))
    return cells


def batch_table(lines: Sequence[Line]) -> str:
    """Format the table of encoding."""
    head = ("precision", "images", "encode, ms", "vision encoder alone, ms", "roofline, ms")
    names = ("encode_s", "vision_s", "roofline_s")
    rows = (
        [line["precision"], str(line["images"]), *(milliseconds(line[name]) for name in names)]
        for line in lines
    )
    return table(head, rows)


def in_order(lines: Sequence[Line]) -> list[Line]:
    """Sort lines by precision in the order of the run, then by rows."""
    names = list(dict.fromkeys(line["precision"] for line in lines))
    return sorted(lines, key=lambda line: (names.index(line["precision"]), line["row_count"]))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(value: float | None, form: str = "{:.1f}") -> str:
    """Format a value; None is a dash."""
    return "-" if value is None else form.format(value)


def milliseconds(seconds: float | None) -> str:
    """Format seconds as milliseconds."""
    return figure(seconds and seconds * 1000, "{:.2f}")


def gib(speed: Line) -> str:
    """Format the peak memory; a dash for a CPU."""
    used = speed.get("peak_bytes")
    return f"{used / 2**30:.2f}" if used else "-"
