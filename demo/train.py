"""Train the demo model from nothing: `python -m demo.train`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from demo.architecture import QUERY_TOKENS, WIDTH, build_model, build_processor
from demo.batches import IGNORED, Batch, Scenes, attention
from demo.schedule import RATES, STEPS, Plan, plans, rate

#: Peak learning rates: of the matrices (Muon, its updates scaled to AdamW's), of all else.
MATRIX_LR, VECTOR_LR = 2e-3, 1e-3
PEAKS = (MATRIX_LR, VECTOR_LR, VECTOR_LR)
RELATIONS = ["Ġleft", "Ġabove"]  #: the tokens of the relation of two shapes
#: The weights saved are a moving average of those trained, over about this many steps.
AVERAGED_STEPS = 400
SAVE_EVERY = 250


class Trainer:
    """A model, its optimisers, and the moving average of its weights."""

    def __init__(self, processor: Blip2Processor, seed: int) -> None:
        torch.manual_seed(seed)
        self.step = 0
        self.model = build_model(processor)
        self.average = build_model(processor).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        # Reads the shapes' coordinates from the image tokens, so that these hold them; not saved.
        self.places = nn.Linear(QUERY_TOKENS * WIDTH, 4)
        self.optimisers = make_optimisers(self.model, self.places)
        images = processor.image_processor
        self.mean = torch.tensor(images.image_mean).view(3, 1, 1) * 255
        self.std = torch.tensor(images.image_std).view(3, 1, 1) * 255
        self.weights = torch.ones(len(processor.tokenizer))
        self.relations = processor.tokenizer.convert_tokens_to_ids(RELATIONS)

    def train(self, batch: Batch, plan: Plan, share: float) -> float:
        """Take a step at this share of the peak learning rate; return the loss."""
        loss = self.loss(batch, plan)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser, peak in zip(self.optimisers, PEAKS, strict=True):
            optimiser.param_groups[0]["lr"] = peak * share
            optimiser.step()
            optimiser.zero_grad()
        self.step += 1
        self._update_average()
        return loss.item()

    def loss(self, batch: Batch, plan: Plan) -> Tensor:
        """Return the cross-entropy of captions and answers, and the weighted loss of places."""
        pixels = (batch.pixels - self.mean) / self.std
        image = self.model.get_image_features(pixels, return_dict=True).pooler_output
        loss = self._loss_of_texts(image, batch, plan)
        if plan.places_weight:
            loss = loss + plan.places_weight * self._loss_of_places(image, batch.places)
        return loss

    def _loss_of_texts(self, image: Tensor, batch: Batch, plan: Plan) -> Tensor:
        decoder = self.model.language_model.model.decoder
        words = decoder.embed_tokens(batch.tokens[:, image.shape[1] :])
        hidden = decoder(
            inputs_embeds=torch.cat([image, words], dim=1),
            attention_mask=attention(batch.segments),
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        learned = batch.labels != IGNORED
        logits = self.model.language_model.lm_head(hidden[learned])
        self.weights[self.relations] = plan.relation_weight
        return nn.functional.cross_entropy(logits, batch.labels[learned], self.weights)

    def _loss_of_places(self, image: Tensor, places: Tensor) -> Tensor:
        present = ~places.isnan()
        guess = self.places(image.flatten(1))
        return nn.functional.mse_loss(guess[present], 4 * places[present] - 2)

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
            "places": self.places.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.places.load_state_dict(state["places"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


def make_optimisers(
    model: Blip2ForConditionalGeneration, places: nn.Linear
) -> list[torch.optim.Optimizer]:
    """Make Muon for the layers' matrices, AdamW for embeddings, norms and biases."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    chosen = {id(p) for p in matrices}
    vectors = [p for _, p in named if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, MATRIX_LR, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(vectors, VECTOR_LR, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        torch.optim.AdamW(places.parameters(), VECTOR_LR),
    ]


def save(model: Blip2ForConditionalGeneration, processor: Blip2Processor, out: Path) -> None:
    """Replace the directory in one go: a reader never sees half a model."""
    fresh, old = (out.with_name(f".{out.name}.{word}") for word in ("fresh", "old"))
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(fresh)
    processor.save_pretrained(fresh)
    if out.exists():
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def save_state(state: dict[str, Any], path: Path) -> None:
    """Replace the file in one go."""
    fresh = path.with_suffix(".fresh")
    torch.save(state, fresh)
    os.replace(fresh, path)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("model"))
    parser.add_argument("--state", type=Path, help="a file to save to, and to go on from")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Train the model, from nothing or from a state."""
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    processor = build_processor()
    trainer = Trainer(processor, args.seed)
    if args.state and args.state.exists():
        trainer.restore(torch.load(args.state))
    planned = plans(args.steps)
    scenes = Scenes(processor.tokenizer, args.seed, planned)
    ahead = Subset(scenes, range(trainer.step, args.steps))
    # A separate process draws the scenes: about an eighth of the work.
    batches = DataLoader(ahead, batch_size=None, num_workers=1, prefetch_factor=8)
    started, losses = time.monotonic(), []
    for batch in batches:
        step = trainer.step
        losses.append(trainer.train(batch, planned[step], rate(step, RATES)))
        if trainer.step % 50 == 0:
            seconds, mean = time.monotonic() - started, sum(losses) / len(losses)
            print(
                f"step {trainer.step} loss {mean:.4f} {seconds:.0f} s", file=sys.stderr, flush=True
            )
            losses.clear()
        if trainer.step % SAVE_EVERY == 0 or trainer.step == args.steps:
            save(trainer.average, processor, args.out)
            if args.state:
                save_state(trainer.state(), args.state)


if __name__ == "__main__":
    main(sys.argv[1:])
