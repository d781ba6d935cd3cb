"""Group beam search of transformers 4, for the prepared rows of a folder.

`write_diverse_beams` runs it with the Python of an environment that has transformers 4.56.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers

# Run by its path, since the environment has no more of this project.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.models.ties import rounding_noise

#: Seeds of the rounding noise under which an answer must not change.
NUDGES = 6
#: Maximum difference of the logits of both versions.
LOGITS = 2e-3


def answers(folder: Path, family: dict[str, Any]) -> list[Any]:
    """Return the answer to each row of a family; None for one that rounding changes."""
    network_class = getattr(transformers, family["class"])
    config = network_class.config_class.from_pretrained(folder)
    # The newer name of an untied head.
    if getattr(config.text_config, "scale_decoder_outputs", None) is False:
        config.text_config.tie_word_embeddings = False
    network, loading = network_class.from_pretrained(
        folder, config=config, output_loading_info=True
    )
    if loading["missing_keys"] or loading["unexpected_keys"] or loading["mismatched_keys"]:
        raise SystemExit(f"{folder}: {loading}")
    network.eval()
    return [_answer(network, row) for row in family["rows"]]


def _answer(network: Any, row: dict[str, Any]) -> Any:
    first = network.generate(**row["inputs"], **row["first"])
    difference = float((first.logits[0] - row["logits"]).abs().max())
    if difference > LOGITS:
        raise SystemExit(f"{row['case']}: the logits of both versions differ by {difference}")
    answer = _generate(network, row)
    for seed in range(NUDGES):
        with rounding_noise(network, seed):
            if _tokens(_generate(network, row)) != _tokens(answer):
                return None
    return answer


def _tokens(answer: list[dict[str, Any]]) -> list[list[int]]:
    return [sequence["tokens"] for sequence in answer]


def _generate(network: Any, row: dict[str, Any]) -> list[dict[str, Any]]:
    output = network.generate(
        **row["inputs"], **row["arguments"], return_dict_in_generate=True, output_scores=True
    )
    new = output.sequences[:, row["prompt"] :].tolist()
    sequences = []
    for tokens, score in zip(new, output.sequences_scores.tolist(), strict=True):
        # transformers 4 writes the first end token, whichever has ended the text.
        ended = row["end"] in tokens
        text = tokens[: tokens.index(row["end"])] if ended else tokens[: row["new"]]
        sequences.append({"tokens": text, "ended": ended, "score": round(score, 5)})
    return sequences


if __name__ == "__main__":
    target = Path(sys.argv[1])
    torch.set_num_threads(1)
    families = torch.load(target / "rows.pt")
    written = {name: answers(target / name, family) for name, family in families.items()}
    torch.save({"version": transformers.__version__, "answers": written}, target / "answers.pt")
