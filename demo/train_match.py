"""Train the demo's retrieval model: `python -m demo.train_match`.

It begins with the captioner's vision encoder. It learns to read from the caption and from captions
that are wrong in a single thing (ITM), and from picking each picture's caption in the batch (ITC).
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from transformers import BlipForImageTextRetrieval, BlipProcessor

from demo.architecture import WIDTH
from demo.match_architecture import build_model, build_processor
from demo.match_batches import IGNORED, MatchBatch, MatchScenes, attention
from demo.schedule import Plan, rate
from demo.train import save, save_state

STEPS = 1750
#: Steps and the shares of the peak learning rates there; between them the rates are linear.
RATES = ((0, 0.005), (199, 1.0), (STEPS - 500, 1.0), (STEPS, 0.0))
#: Mostly pairs: a single shape has no relation, and is the easier to learn.
PLAN = Plan(pictures=32, questions=0, two_shapes=0.7)

#: Peak learning rates: of the text's matrices (Muon, its updates scaled to AdamW's), of all else
#: that is new, and of the vision encoder, which is trained already.
MATRIX_LR, VECTOR_LR, VISION_LR = 2e-3, 1e-3, 3e-4
PEAKS = (MATRIX_LR, VECTOR_LR, VISION_LR)
#: Of the words' and of the contrastive loss, beside that of matching.
WORDS_WEIGHT, CONTRAST_WEIGHT = 1.0, 0.3
TEMPERATURE = 0.07
AVERAGED_STEPS = 300
SAVE_EVERY, REPORT_EVERY = 250, 25


class MatchTrainer:
    """A model, its optimisers, and the moving average of its weights."""

    def __init__(self, processor: BlipProcessor, seed: int) -> None:
        torch.manual_seed(seed)
        self.step = 0
        self.model = build_model(processor)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        # A verdict on each word, on which that on the text can build, and the sharpness of the
        # contrast; neither is saved.
        self.words = nn.Linear(WIDTH, 2)
        self.sharpness = nn.Parameter(torch.tensor(1 / TEMPERATURE).log())
        self.optimisers = make_optimisers(self.model, [*self.words.parameters(), self.sharpness])
        images = processor.image_processor
        self.mean = torch.tensor(images.image_mean).view(3, 1, 1) * 255
        self.std = torch.tensor(images.image_std).view(3, 1, 1) * 255

    def train(self, batch: MatchBatch, share: float) -> dict[str, float]:
        """Take a step at this share of the peak learning rates; return what `losses` returns."""
        losses = self.losses(batch)
        loss = losses["match"] + WORDS_WEIGHT * losses["words"]
        loss = loss + CONTRAST_WEIGHT * losses["contrast"]
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser, peak in zip(self.optimisers, PEAKS, strict=True):
            optimiser.param_groups[0]["lr"] = peak * share
            optimiser.step()
            optimiser.zero_grad()
        self.step += 1
        self._update_average()
        return {name: value.item() for name, value in losses.items()}

    def losses(self, batch: MatchBatch) -> dict[str, Tensor]:
        """Return the losses of verdicts, words and contrast, and the share of right verdicts."""
        images = self.model.vision_model((batch.pixels - self.mean) / self.std).last_hidden_state
        read = self._read(batch, encoder_hidden_states=images)
        verdicts = self.model.itm_head(_at(read, batch.starts))
        present = batch.true != IGNORED
        right = (verdicts.argmax(-1) == batch.true)[present].float()
        return {
            "match": balanced(verdicts, batch.true),
            "words": balanced(self.words(read), batch.right),
            "contrast": self._contrast(images, batch),
            "accuracy": right.mean(),
        }

    def _read(self, batch: MatchBatch, **images: Tensor) -> Tensor:
        read: Tensor = self.model.text_encoder(
            input_ids=batch.tokens,
            position_ids=batch.positions,
            attention_mask=attention(batch.segments),
            **images,
        ).last_hidden_state
        return read

    def _contrast(self, images: Tensor, batch: MatchBatch) -> Tensor:
        """Return InfoNCE both ways; the errors stand among the texts, never among the pictures."""
        compared = batch.captions != IGNORED
        texts = _at(self._read(batch), batch.starts)[compared]
        texts = nn.functional.normalize(self.model.text_proj(texts), dim=-1)
        pictures = nn.functional.normalize(self.model.vision_proj(images[:, 0]), dim=-1)
        scores = pictures @ texts.T * self.sharpness.clamp(max=4.6).exp()
        # The first text of a row is its caption. Two pictures may share theirs.
        belongs = batch.captions[:, :1] == batch.captions[compared]
        captions = torch.zeros_like(batch.captions, dtype=torch.bool)
        captions[:, 0] = True
        captions = captions[compared]
        return _info_nce(scores, belongs) + _info_nce(scores.T[captions], belongs.T[captions])

    @torch.no_grad()
    def _update_average(self) -> None:
        # Short at first, so that the untrained weights are soon forgotten.
        share = max(1 / AVERAGED_STEPS, 1 / (1 + self.step / 4))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), share)

    def state(self) -> dict[str, Any]:
        """Return everything from which the training can go on."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "words": self.words.state_dict(),
            "sharpness": self.sharpness.data,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.words.load_state_dict(state["words"])
        self.sharpness.data.copy_(state["sharpness"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


def balanced(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the cross-entropy with right and wrong weighted alike: 0.5 is a fair threshold."""
    sides = [
        nn.functional.cross_entropy(logits[truth == side], truth[truth == side]) for side in (0, 1)
    ]
    return (sides[0] + sides[1]) / 2


def _at(read: Tensor, starts: Tensor) -> Tensor:
    """Pick the first token of each text: (B, L, width) to (B, K, width)."""
    return read.gather(1, starts[:, :, None].expand(-1, -1, read.shape[2]))


def _info_nce(scores: Tensor, belongs: Tensor) -> Tensor:
    """Return the mean loss of the rows; all that belongs to a row counts as a single match."""
    matching = scores.masked_fill(~belongs, -torch.inf).logsumexp(1)
    return (scores.logsumexp(1) - matching).mean()


def make_optimisers(
    model: BlipForImageTextRetrieval, unsaved: list[nn.Parameter]
) -> list[torch.optim.Optimizer]:
    """Make Muon for the text layers' matrices, AdamW for all else, slowest for the vision."""
    vision = list(model.vision_model.parameters())
    matrices = [p for p in model.text_encoder.encoder.parameters() if p.ndim == 2]
    chosen = {id(p) for p in [*vision, *matrices]}
    vectors = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, MATRIX_LR, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([*vectors, *unsaved], VECTOR_LR, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.AdamW(vision, VISION_LR, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def save_half(model: BlipForImageTextRetrieval, processor: BlipProcessor, out: Path) -> None:
    """Save in 16 bits: half the size. P(match) moves by 0.002 at most."""
    half = cast(Any, copy.deepcopy(model)).half()
    save(half, cast(Any, processor), out)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("match_model"))
    parser.add_argument("--state", type=Path, help="a file to save to, and to go on from")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Train the model, from the captioner's vision encoder or from a state."""
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    processor = build_processor()
    trainer = MatchTrainer(processor, args.seed)
    if args.state and args.state.exists():
        trainer.restore(torch.load(args.state))
    scenes = MatchScenes(processor.tokenizer, args.seed, [PLAN] * args.steps)
    ahead = Subset(scenes, range(trainer.step, args.steps))
    # A separate process draws the scenes.
    batches = DataLoader(ahead, batch_size=None, num_workers=1, prefetch_factor=4)
    started, reports = time.monotonic(), []
    for batch in batches:
        reports.append(trainer.train(batch, rate(trainer.step, RATES)))
        if trainer.step % REPORT_EVERY == 0:
            means = [
                f"{name} {sum(report[name] for report in reports) / len(reports):.4f}"
                for name in reports[0]
            ]
            seconds = time.monotonic() - started
            print("step", trainer.step, *means, f"{seconds:.0f} s", file=sys.stderr, flush=True)
            reports.clear()
        if trainer.step % SAVE_EVERY == 0 or trainer.step == args.steps:
            save_half(trainer.average, processor, args.out)
            if args.state:
                save_state(trainer.state(), args.state)


if __name__ == "__main__":
    main(sys.argv[1:])
