"""Random checkpoints with Flan-T5, small enough to decode thousands of tokens in a test.

As in the published ones, the heads of an attention together are not as wide as the model, the
tokenizer is a Unigram with sentinels and without a character such as '<', the model has more tokens
than the tokenizer, and a text begins with the token that ends it (conversion of
Salesforce/blip2-flan-t5-xl: bos_token_id=1).
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    T5Tokenizer,
)

IMAGE_SIZE = 16
QUERIES = 4
READ_TOKENS = 200
QUESTION_POSITIONS = 150
SENTENCES = [
    "Question: how many shapes are there? Answer: two.",
    "Question: what color is the circle on the left? Answer: red. is there a star or above it?",
    "a photo of a red circle above a blue square and next to it, if anything, an image",
    "A short image caption.",
]
WIDTH = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


def build_tokenizer() -> T5Tokenizer:
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=160,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        initial_alphabet=[*string.ascii_letters, *string.digits, *"[]>/_"],
        show_progress=False,
    )
    unigram.train_from_iterator(SENTENCES * 3, trainer)
    trained = json.loads(unigram.to_str())["model"]["vocab"]
    pieces = [(piece, round(score, 1)) for piece, score in trained]
    pieces[3:] = sorted(pieces[3:])  # the trainer's order differs from process to process
    sentinels = [(f"<extra_id_{number}>", 0.0) for number in (2, 1, 0)]
    return T5Tokenizer(
        vocab=[*pieces, *sentinels],
        extra_ids=len(sentinels),
        model_max_length=READ_TOKENS,
        # Off in the published ones; texts must follow the checkpoint.
        clean_up_tokenization_spaces=True,
    )


def build_question_tokenizer() -> BertTokenizer:
    letters = [*string.ascii_lowercase, *string.digits]
    words = " ".join(SENTENCES).lower().replace("?", " ?").replace(":", " :").split()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *"?!.,'[]-/<>:"]
    tokens += [f"##{letter}" for letter in letters]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return BertTokenizer(vocab=vocabulary, model_max_length=QUESTION_POSITIONS)


def text_config(tokenizer: T5Tokenizer, flan: bool) -> dict[str, Any]:
    """Configure a Flan-T5, or a first T5 with plain layers and shared, scaled embeddings."""
    return {
        "model_type": "t5",
        "vocab_size": len(tokenizer) + 5,
        "d_model": 32,
        "d_kv": 12,
        "d_ff": 64,
        "num_heads": 2,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "n_positions": 512,
        "feed_forward_proj": "gated-gelu" if flan else "relu",
        "tie_word_embeddings": not flan,
        # Answers are short here: distances must differ, and also share a bucket, within them.
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20,
        "bos_token_id": 1,
        "decoder_start_token_id": 0,
        # Many end tokens, so that an untrained model ends its texts at many lengths.
        "eos_token_id": [1, *range(40, 52)],
    }


def vision_config() -> dict[str, Any]:
    return {**WIDTH, "num_hidden_layers": 2, "image_size": IMAGE_SIZE, "patch_size": 8}


def qformer_config(words: int) -> dict[str, Any]:
    return {
        **WIDTH,
        "vocab_size": words,
        "num_hidden_layers": 2,
        "cross_attention_frequency": 2,
        "max_position_embeddings": QUESTION_POSITIONS,
    }


def randomise(network: torch.nn.Module) -> None:
    """Weights far from zero: rows must differ, and by more than rounding."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3)
            if name.endswith((".q.weight", ".k.weight")):
                weight.mul_(0.6)  # T5 does not scale scores: softmax would select one position
            if "EncDecAttention.o" in name:
                weight.mul_(3)  # answers must depend on the source more than on the last token
            if "relative_attention_bias" in name:
                weight.mul_(5)
            if "query_tokens" in name or "qformer.embeddings" in name:
                weight.mul_(3)


def save_blip2(path: Path, flan: bool = True) -> None:
    """A Blip2ForConditionalGeneration with its processor, as `save_pretrained` writes them."""
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    processor = Blip2Processor(images, build_tokenizer(), num_query_tokens=QUERIES)
    processor.save_pretrained(path)
    config = Blip2Config(
        vision_config=vision_config(),
        qformer_config=qformer_config(1),
        text_config=text_config(processor.tokenizer, flan),
        num_query_tokens=QUERIES,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    save(Blip2ForConditionalGeneration, config, path, seed=3 if flan else 5)


def save_instructblip(path: Path) -> None:
    """An InstructBlipForConditionalGeneration with its processor."""
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    questions = build_question_tokenizer()
    processor = InstructBlipProcessor(
        images, build_tokenizer(), questions, num_query_tokens=QUERIES
    )
    processor.save_pretrained(path)
    config = InstructBlipConfig(
        vision_config=vision_config(),
        qformer_config=qformer_config(len(questions)),
        text_config=text_config(processor.tokenizer, flan=True),
        num_query_tokens=QUERIES,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    save(InstructBlipForConditionalGeneration, config, path, seed=4)


def save(network_class: type, config: Any, path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    network = network_class(config)
    language = network.language_model
    if not language.config.scale_decoder_outputs:
        # Flan-T5 has an untied head, but transformers ties that of a new network.
        language.lm_head.weight = torch.nn.Parameter(language.shared.weight.detach().clone())
    randomise(network)
    network.eval().save_pretrained(path)
