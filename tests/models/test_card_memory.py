"""The memory table of model cards, equal to a published one."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import Blip2Config

from worker import info
from worker.models.card_memory import card_estimates

#: The table on the model card of Salesforce/blip2-opt-2.7b.
PUBLISHED = {
    "float32": ("490.94 MB", "14.43 GB", "57.72 GB"),
    "float16/bfloat16": ("245.47 MB", "7.21 GB", "28.86 GB"),
    "int8": ("122.73 MB", "3.61 GB", "14.43 GB"),
    "int4": ("61.37 MB", "1.80 GB", "7.21 GB"),
}


@pytest.fixture(scope="module")
def blip2_opt() -> Any:
    """The configuration of blip2-opt-2.7b when its card was written."""
    text = {"model_type": "opt", "hidden_size": 2560, "num_hidden_layers": 32, "ffn_dim": 10240}
    text |= {"num_attention_heads": 32, "word_embed_proj_dim": 2560, "vocab_size": 50272}
    return Blip2Config(text_config=text, architectures=["Blip2ForConditionalGeneration"])


def test_the_table_equals_that_of_the_model_card(blip2_opt: Any) -> None:
    assert {
        row.dtype: tuple(
            info._format_bytes(size, 1024)
            for size in (row.largest_layer_bytes, row.total_bytes, row.training_bytes)
        )
        for row in card_estimates(blip2_opt)
    } == PUBLISHED


def test_the_configuration_keeps_its_tied_head(blip2_opt: Any) -> None:
    card_estimates(blip2_opt)
    assert blip2_opt.text_config.tie_word_embeddings
