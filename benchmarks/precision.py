"""`python -m benchmarks.precision`: the effect of each precision on the demo model's answers.

Held-out scenes of the demo's world run through the worker's own engine: a caption, the rest of a
caption from its prompt, and a question of each kind. Prints a Markdown table: the share of answers
that equal those in fp32, the share of correct answers, the error of the first logits against fp32
(relative, mean over the rows), the memory of the weights, and the time. The default device is the
CPU.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import NamedTuple

import torch

from config.settings import DEMO_MODEL
from demo.dialogues import PROMPT
from demo.evaluate import Row, held_out
from worker.engine.engine import Engine
from worker.engine.model import Generator, as_generator
from worker.engine.request import Request
from worker.hub.resolver import resolve
from worker.models.checkpoint import read_config
from worker.models.memory import estimate
from worker.models.registry import PRECISIONS, load

ROWS = 64
#: Rows whose first logits are compared.
LOGITS = 256
HEADER = """\
| precision | answers as in fp32 | right | captions right | logit error | weights | seconds |
|---|---:|---:|---:|---:|---:|---:|"""


class Outcome(NamedTuple):
    """Answers and figures of a model in one precision."""

    answers: list[str]
    logits: torch.Tensor
    seconds: float
    weight_bytes: int


def main() -> int:
    """Print the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    rows = list(held_out(options.scenes, options.seed))
    print(f"{options.scenes} scenes, {len(rows):,} answers, torch {torch.__version__}\n")
    print(HEADER)
    reference = None
    for precision in PRECISIONS:
        outcome = measure(options.model, precision, options.device, rows)
        reference = reference or outcome
        print(line(precision, rows, outcome, reference), flush=True)
    return 0


def measure(name: str, precision: str, device: str, rows: Sequence[Row]) -> Outcome:
    """Answer all rows in one precision. Raises LoadError."""
    model = as_generator(load(name, precision, device))
    if model is None:
        raise SystemExit(f"{name} writes no text")
    requests = [request(model, number, row) for number, row in enumerate(rows)]
    logits = first_logits(model, requests[:LOGITS])
    engine, answers = Engine(model, max_rows=ROWS), dict[int | str, str]()
    started = time.perf_counter()
    for queued in requests:
        engine.add(queued)
    while not engine.idle:
        answers.update({answer.id: answer.text for answer in engine.step()})
    seconds = time.perf_counter() - started
    weights = estimate(read_config(resolve(name)), precision, model.device).weight_bytes
    return Outcome([answers[queued.id] for queued in requests], logits, seconds, weights)


def request(model: Generator, number: int, row: Row) -> Request:
    """Build a consumer's request of a picture and its prompt."""
    side = (model.image_size, model.image_size)
    pixels = row.picture.convert("RGB").resize(side, model.resample).tobytes()
    before, after = PROMPT.split("{question}")
    is_question = row.prompt.endswith(after)
    text = row.prompt.removeprefix(before).removesuffix(after) if is_question else row.prompt
    return Request(number, "vqa" if is_question else "caption", f"{number}", pixels, text)


@torch.inference_mode()
def first_logits(model: Generator, requests: Sequence[Request]) -> torch.Tensor:
    """Return the logits of each row's first new token: (n, vocabulary), float32."""
    logits = []
    side = model.image_size
    for first in range(0, len(requests), ROWS):
        some = requests[first : first + ROWS]
        joined = bytearray().join(queued.pixels or b"" for queued in some)
        pixels = torch.frombuffer(joined, dtype=torch.uint8).view(len(some), side, side, 3)
        features = model.encode(pixels.to(model.device))
        prompts = [model.prompt(queued) for queued in some]
        slots = model.decoder.new_slots(len(some))
        inputs = model.condition(features, prompts)
        logits.append(model.decoder.prefill(inputs, prompts, slots))
    return torch.cat(logits).float().cpu()


def line(precision: str, rows: Sequence[Row], outcome: Outcome, reference: Outcome) -> str:
    """Format a row of the table."""
    right = [answer == row.expected for answer, row in zip(outcome.answers, rows, strict=True)]
    captions = [correct for correct, row in zip(right, rows, strict=True) if "caption" in row.kind]
    same = [a == b for a, b in zip(outcome.answers, reference.answers, strict=True)]
    difference = (outcome.logits - reference.logits).norm(dim=1)
    error = (difference / reference.logits.norm(dim=1)).mean().item()
    cells = [
        precision,
        share(same),
        share(right),
        share(captions),
        f"{error:.2g}",
        f"{outcome.weight_bytes / 1e6:.1f} MB",
        f"{outcome.seconds:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def share(flags: Sequence[bool]) -> str:
    """Format the share of true flags."""
    return f"{sum(flags) / len(flags):.2%}"


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--scenes", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default=str(DEMO_MODEL))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
