"""Write tests/models/diverse_beams.json, the answers of transformers 4 to diverse beam search.

transformers 5 downloads the code of group beam search; 4.56 still has its own:

    python3 -m venv /tmp/old && /tmp/old/bin/pip install torch==2.13.0 && \
        /tmp/old/bin/pip install transformers==4.56.2 pillow
    python -m tests.models.write_diverse_beams /tmp/old/bin/python

This process builds checkpoints, inputs and options with the transformers of the project; the other
one loads the same files, compares the first logits, and drops rows with ties.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tests.models.families import NETWORKS, Family
from tests.opt_checkpoint import save_opt
from worker.engine.request import GenerationOptions, Request

FIXTURE = Path(__file__).with_name("diverse_beams.json")
SCRIPT = Path(__file__).with_name("old_group_beams.py")
ROWS = 36
IMAGES = 5
TEXTS = ["", "a red circle", "how many?", "is it a photo of the circle, above?"]


def some_options(generator: random.Random) -> GenerationOptions:
    """Draw options of diverse beams, beside other penalties."""
    groups = generator.choice([2, 2, 3, 4])
    beams = groups * generator.choice([1, 1, 2, 3])
    new = generator.choice([1, 3, 6, 11])
    return GenerationOptions(
        max_new_tokens=new,
        min_new_tokens=min(new, generator.choice([0, 0, 2, 5])),
        num_beams=beams,
        num_beam_groups=groups,
        diversity_penalty=generator.choice([0.2, 0.7, 1.5, 4.0]),
        length_penalty=generator.choice([-1.0, 0.0, 0.6, 1.0, 2.0]),
        early_stopping=generator.choice([False, True, "never"]),
        num_return_sequences=generator.choice([1, 2, beams]),
        repetition_penalty=generator.choice([1.0, 1.3, 2.5]),
        no_repeat_ngram_size=generator.choice([0, 0, 2]),
        suppress_tokens=generator.choice([(), (), (5, 9)]),
    )


def prepared(family: Family, network_class: type, generator: random.Random) -> dict[str, Any]:
    """Return the rows of a family, for `generate` of another version of transformers."""
    rows = []
    for number in range(ROWS):
        image, text = generator.randrange(IMAGES), generator.choice(TEXTS)
        options = some_options(generator)
        allowed = some_tokens(family, generator) if generator.random() < 0.4 else None
        if allowed is not None:
            options = replace(options, suppress_tokens=all_but(family, allowed))
        request = family.request(number, image, text, options)
        first = {
            **{"max_new_tokens": 1, "do_sample": False, "num_beams": 1},
            **{"output_logits": True, "return_dict_in_generate": True},
        }
        inputs = family.inputs(request)
        output = family.network.generate(**inputs, **first)
        arguments = family.arguments(options) | {
            "num_beam_groups": options.num_beam_groups,
            "diversity_penalty": options.diversity_penalty,
        }
        rows.append(
            {
                "case": {
                    **{"image": image, "text": text, "prompt": prompt_ids(family, request)},
                    **{"allowed": allowed, "options": changed(options)},
                },
                "inputs": inputs,
                "first": first,
                "logits": output.logits[0],
                "prompt": output.sequences.shape[1] - 1,
                "arguments": {
                    name: value for name, value in arguments.items() if value is not None
                },
                "end": family.model.decoder.eos_ids[0],
                "new": options.max_new_tokens,
            }
        )
    return {
        "class": network_class.__name__,
        "weights": weight_norm(family.network),
        "rows": rows,
    }


def weight_norm(network: Any) -> float:
    """Return a number that tells whether two checkpoints have the same weights."""
    norms = [
        float(weight.detach().norm()) * (n + 1) for n, weight in enumerate(network.parameters())
    ]
    return round(sum(norms), 2)


def prompt_ids(family: Family, request: Request) -> list[int]:
    """Return all token ids of a prompt, which tell whether two tokenizers are equal."""
    prompt = family.model.prompt(request)
    return [*prompt.start, *(prompt.source or ()), *(prompt.query or ())]


def some_tokens(family: Family, generator: random.Random) -> list[int]:
    """Draw few tokens, so that groups compete for them: an end, the padding and others."""
    padding = family.network.generation_config.pad_token_id or family.tokenizer.pad_token_id
    others = generator.sample(range(family.model.decoder.vocab_size), 4)
    return [family.model.decoder.eos_ids[0], padding, *others]


def all_but(family: Family, allowed: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens that are not allowed."""
    return tuple(sorted({*range(family.model.decoder.vocab_size)} - {*allowed}))


def changed(options: GenerationOptions) -> dict[str, Any]:
    """Return the options that are not the defaults, without a long list of suppressed tokens."""
    defaults = asdict(GenerationOptions(suppress_tokens=()))
    values = {name: value for name, value in asdict(options).items() if value != defaults[name]}
    if len(options.suppress_tokens) > 2:
        del values["suppress_tokens"]
    return values


def write(old_python: str) -> None:
    """Write the fixture with the transformers of another Python."""
    generator = random.Random(14)
    with TemporaryDirectory() as name:
        folder, families = Path(name), {}
        for family, (network_class, save) in NETWORKS.items():
            (save or save_opt)(folder / family)
            families[family] = prepared(
                Family(folder / family, network_class), network_class, generator
            )
        torch.save(families, folder / "rows.pt")
        subprocess.run([old_python, str(SCRIPT), name], check=True)
        result = torch.load(folder / "answers.pt")
    lines = []
    for family, answers in result["answers"].items():
        for row, answer in zip(families[family]["rows"], answers, strict=True):
            if answer is not None:
                lines.append(json.dumps({"family": family, **row["case"], "sequences": answer}))
        print(family, sum(answer is not None for answer in answers), "of", len(answers), "rows")
    weights = json.dumps({name: family["weights"] for name, family in families.items()})
    rows = ",\n".join(lines)
    FIXTURE.write_text(
        f'{{"transformers": "{result["version"]}", "weights": {weights}, "rows": [\n{rows}\n]}}\n'
    )


if __name__ == "__main__":
    write(sys.argv[1])
