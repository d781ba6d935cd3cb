"""`python -m benchmarks.gpu`: the engine on a CUDA device at the shape of blip2-opt-2.7b.

The weights are random and built on the device; captions have twelve tokens, and all images are
distinct. For each precision and row count: images per second, against transformers' own `generate`
at the same batch size and against the roofline, and the single parts. A part that fails or exceeds
the time budget is reported, and the others run. Requires torch, transformers, numpy and Pillow,
and bitsandbytes for int8. Exit code 1 if the texts of a tiny model in fp32 differ or the device
fails.
"""

from __future__ import annotations

import gc
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from benchmarks.gpu.model import SHAPES, build
from benchmarks.gpu.parts import NEW_TOKENS, Parts, Speed, agreement, measured_peak
from benchmarks.gpu.progress import Progress
from benchmarks.gpu.roofline import Peak, Roofline, count, known_peak
from benchmarks.gpu.tables import batch_table, part_table, row_table
from worker.models.precision import DTYPES

#: Row counts by importance: the time budget may run out.
ROWS: Final = (64, 128, 32, 16, 8, 1)
IMAGES: Final = (1, 8, 32)
#: Expected seconds of a part whose kind has not run yet, on a GPU.
FIRST_GUESS_S: Final = 15.0


class Run:
    """All measurements on one device."""

    def __init__(self, options: Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        guess_s = FIRST_GUESS_S if self.device.type == "cuda" else 0.0
        self.progress = Progress(options.budget_s, guess_s, options.output)
        self.rows: list[dict[str, Any]] = []
        self.batches: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = []
        self.progress.results |= {
            "device": device_name(self.device),
            "shape": options.shape,
            "new_tokens": NEW_TOKENS,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "models": self.models,
            "rows": self.rows,
            "batches": self.batches,
        }
        self.equal = False

    def run(self) -> None:
        """Run the check and all precisions."""
        self.equal = bool(self.progress.part("check", "tiny model in fp32", self.check_tiny))
        for precision in self.options.precisions:
            self.run_precision(precision)
            self.free()

    def check_tiny(self) -> bool:
        """Check that a tiny model in fp32 returns the texts of `generate`; only fp32 is exact."""
        torch.backends.cudnn.allow_tf32 = False  # full fp32, in convolutions too
        parts = Parts(build("tiny", "fp32", self.device))
        expected, all_equal = parts.generate(16).texts, True
        for graphs in self.graphs:
            speed = parts.engine(16, graphs)
            equal, _ = agreement(expected, speed.texts)
            all_equal = all_equal and equal == 1
            distinct = len(set(expected))
            self.progress.note(
                f"tiny model in fp32, {speed.decoding}: {equal:.1%} of {len(expected)} texts"
                f" ({distinct} of them distinct) equal those of `generate`"
            )
        return all_equal

    def run_precision(self, precision: str) -> None:
        """Measure all parts in one precision."""
        shape = self.options.shape
        model = self.progress.part(
            "build", f"{precision} model", lambda: build(shape, precision, self.device)
        )
        if model is None:
            return
        peak = self.peak(precision)
        roofline = Roofline(count(model.network.config, *element_sizes(model, precision)), peak)
        weights = sum(parameter.nbytes for parameter in model.network.parameters())
        weights += sum(buffer.nbytes for buffer in model.network.buffers())
        self.models.append({"precision": precision, "weight_bytes": weights, **asdict(peak)})
        self.progress.report(
            f"{precision}: {weights / 1e9:.2f} GB of weights; roofline of"
            f" {peak.flops / 1e12:.4g} TFLOP/s and {peak.bytes / 1e12:.3g} TB/s"
        )
        parts = Parts(model)
        for images in IMAGES:
            self.encoding(parts, precision, images, roofline)
        for rows in self.options.rows:
            self.captions(parts, precision, rows, roofline)

    def encoding(self, parts: Parts, precision: str, images: int, roofline: Roofline) -> None:
        """Measure the encoding of a batch of images."""
        name = f"{precision}, encoding {images}"
        seconds = self.progress.part("encode", name, lambda: parts.encode_s(images))
        if seconds is None:
            return
        whole_s, vision_s = seconds
        line = {"precision": precision, "images": images, "encode_s": whole_s}
        line |= {"vision_s": vision_s, "roofline_s": roofline.encode_s(images)}
        self.batches.append(line)
        self.progress.report(
            f"{name}: {whole_s * 1e3:.1f} ms, of which vision {vision_s * 1e3:.1f}"
        )

    def captions(self, parts: Parts, precision: str, rows: int, roofline: Roofline) -> None:
        """Measure captions and prefill at a row count."""
        name = f"{precision}, {rows} rows"
        prompt = int(parts.model.network.config.num_query_tokens) + 1
        line: dict[str, Any] = {"precision": precision, "row_count": rows}
        line["roofline_images_per_s"] = roofline.captions_per_s(rows, prompt, NEW_TOKENS)
        line["roofline_step_s"] = roofline.step_s(rows, prompt + NEW_TOKENS / 2)
        line["roofline_prefill_s"] = roofline.prefill_s(rows, prompt)
        self.rows.append(line)
        speeds = self.speeds(parts, rows, name, line)
        prefill_s = self.progress.part("prefill", f"{name}, prefill", lambda: parts.prefill_s(rows))
        line["prefill_s"] = prefill_s
        baseline = speeds.pop("generate", None)
        for kind, speed in speeds.items():
            if baseline is not None:
                line[kind]["ratio"] = speed.images_per_s / baseline.images_per_s
                equal, tokens = agreement(baseline.texts, speed.texts)
                line[kind] |= {"equal_texts": equal, "tokens_before_difference": tokens}
        self.progress.report(f"{name}: done")

    def speeds(self, parts: Parts, rows: int, name: str, line: dict[str, Any]) -> dict[str, Speed]:
        """Measure the engine and `generate`; add the figures to the line."""
        kinds: dict[str, Callable[[], Speed]] = {"generate": lambda: parts.generate(rows)}
        for graphs in self.graphs:
            kind = "engine_graphs" if graphs else "engine_plain"
            kinds[kind] = lambda graphs=graphs: parts.engine(rows, graphs)  # type: ignore[misc]
        speeds: dict[str, Speed] = {}
        for kind, work in kinds.items():
            speed = self.progress.part(kind, f"{name}, {kind}", work)
            self.free()
            if speed is None:
                continue
            speeds[kind] = speed
            line[kind] = asdict(replace(speed, texts=[])) | {"distinct": len(set(speed.texts))}
            self.progress.report(f"{name}, {kind}: {speed}")
        return speeds

    @property
    def graphs(self) -> tuple[bool, ...]:
        """Settings of CUDA graphs to measure."""
        return (True, False) if self.device.type == "cuda" else (False,)

    def peak(self, precision: str) -> Peak:
        """Return the peak of the command line, else of the table, else a measured one."""
        dtype = DTYPES.get(precision, torch.bfloat16)
        measured = measured_peak(self.device, dtype)
        self.progress.report(
            f"a large product in {dtype} reaches {measured.flops / 1e12:.4g} TFLOP/s,"
            f" a copy {measured.bytes / 1e12:.3g} TB/s"
        )
        peak = known_peak(device_name(self.device), precision) or measured
        tflops, tbps = self.options.tflops, self.options.tbps
        flops = tflops * 1e12 if tflops else peak.flops
        return Peak(flops, tbps * 1e12 if tbps else peak.bytes)

    def free(self) -> None:
        """Collect the reference cycles of engines and networks."""
        gc.collect()
        if self.device.type == "cuda" and not self.progress.broken:
            torch.cuda.empty_cache()


def element_sizes(model: Any, precision: str) -> tuple[int, int]:
    """Return the bytes of an activation, and of an element of the layers' matrices."""
    element = int(model.network.language_projection.weight.element_size())
    return element, 1 if precision == "int8" else element


def device_name(device: torch.device) -> str:
    """Return the name of a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def main() -> int:
    """Print progress, then tables."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    run = Run(_options())
    progress = run.progress
    if run.device.type == "cpu":
        torch.set_num_threads(1)
    progress.report(f"{device_name(run.device)}; torch {torch.__version__}")
    run.run()
    progress.report("done")
    for table in (row_table(run.rows), part_table(run.rows), batch_table(run.batches)):
        print(f"\n{table}")
    print("", *(f"- {note}" for note in progress.notes), sep="\n")
    return 0 if run.equal and not progress.broken else 1


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--precisions", type=lambda text: text.split(","), help="precisions, in this order"
    )
    parser.add_argument("--rows", type=numbers, default=list(ROWS), help="such as 1,8,64")
    parser.add_argument(
        "--budget-s", type=float, default=460.0, help="parts that would end later are skipped"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=tuple(SHAPES), default="blip2-opt-2.7b")
    parser.add_argument(
        "--tflops", type=float, help="TFLOP/s of the roofline, instead of the data sheet's"
    )
    parser.add_argument("--tbps", type=float, help="TB/s of memory, instead of the data sheet's")
    parser.add_argument("--output", type=Path, help="a JSON file, rewritten after each part")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no usable CUDA device; --device cpu --shape tiny tries the program")
    halves = ["fp16", "bf16", "int8"] if options.device != "cpu" else ["fp32", "bf16", "int8"]
    options.precisions = options.precisions or halves
    return options


def numbers(text: str) -> list[int]:
    """Parse row counts and sort them by importance."""
    rows = [int(part) for part in text.split(",")]
    return [*(row for row in ROWS if row in rows), *(row for row in rows if row not in ROWS)]
