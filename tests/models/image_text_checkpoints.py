"""Tiny random image-text models of several kinds, saved as transformers does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    GPT2Config,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
)

#: Sizes of a tiny transformer.
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
VISION: dict[str, Any] = {**SIZES, "image_size": 28, "patch_size": 14}
#: Turns of a chat with one image, in the form of ChatML.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Words that a tokenizer writes as one token, besides bytes.
CHAT_TOKENS = ("<|im_start|>", "<|im_end|>", "<image>")


def chat_template(image: str) -> str:
    """Return the template with this text for an image."""
    return CHAT_TEMPLATE.replace("IMAGE", image)


def byte_tokenizer(*control: str, **special: Any) -> Any:
    """Build a tokenizer of bytes with these control tokens; `special` are those with a name."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<pad>", "<s>", "</s>", *letters]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{
            "pad_token": "<pad>",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "extra_special_tokens": list(control),
            **special,
        },
    )


def text_config(tokenizer: Any, **changes: Any) -> dict[str, Any]:
    """Return the sizes of a language model with the tokens of a tokenizer."""
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos")}
    return {
        **SIZES,
        **ids,
        "pad_token_id": tokenizer.pad_token_id,
        "vocab_size": len(tokenizer),
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        **changes,
    }


def save(path: Path, network: Any, *processors: Any) -> None:
    """Save a network with distinct random weights, and its processors."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1:
                # Larger than at initialisation, so that answers depend on image and text.
                weight.normal_(0, 1.0 if "embed" in name else 0.4, generator=generator)
    for part in (network, *processors):
        part.save_pretrained(path)


def save_vit_gpt2(path: Path) -> None:
    """Save a model that reads no text: nlpconnect/vit-gpt2-image-captioning is of this kind."""
    tokenizer = byte_tokenizer()
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=128,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=1,
        eos_token_id=2,
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**VISION), decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    images = ViTImageProcessorPil(size={"height": 28, "width": 28})
    save(path, VisionEncoderDecoderModel(config), images, tokenizer)


def save_llava(path: Path, template: bool = True) -> None:
    """Save a LLaVA: llava-hf/llava-1.5-7b-hf is of this kind."""
    tokenizer = byte_tokenizer(*CHAT_TOKENS)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**text_config(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_seq_length=4,
    )
    size = {"height": 28, "width": 28}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template("<image>\n") if template else None,
    )
    save(path, LlavaForConditionalGeneration(config), processor)


def save_idefics3(path: Path) -> None:
    """Save a model that cuts images into tiles: SmolVLM is of this kind."""
    tokens = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = byte_tokenizer("<|im_start|>", *tokens, *tiles)
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_config={**SIZES, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "llama", **text_config(tokenizer)},
        scale_factor=2,
        **{"pad_token_id": tokenizer.pad_token_id},
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    template = chat_template("<image>").replace("<|im_end|>", "<end_of_utterance>")
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=template)
    save(path, Idefics3ForConditionalGeneration(config), processor)


def save_qwen2_vl(path: Path) -> None:
    """Save a model that keeps the proportions of images: Qwen/Qwen2-VL-2B-Instruct."""
    names = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = byte_tokenizer("<|im_start|>", "<|im_end|>", *names, eos_token="<|im_end|>")
    ids = {name.strip("<|>"): tokenizer.convert_tokens_to_ids(name) for name in names}
    config = Qwen2VLConfig(
        text_config=text_config(
            tokenizer, rope_parameters={"type": "mrope", "mrope_section": [1, 1, 2]}
        ),
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "num_heads": 4,
            "hidden_size": 32,
            "mlp_ratio": 2,
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )
    tokenizer.chat_template = chat_template("<|vision_start|><|image_pad|><|vision_end|>")
    images = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=84 * 84)
    save(path, Qwen2VLForConditionalGeneration(config), images, tokenizer)


def save_git(path: Path) -> None:
    """Save a model whose captions continue a plain prompt: microsoft/git-base-coco."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "is", "a", "this", "red", "cat"]
    letters = [f"{mark}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz?" for mark in ("", "##")]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words + letters)})
    config = GitConfig(
        vision_config=VISION,
        **SIZES,
        vocab_size=len(tokenizer),
        bos_token_id=2,
        eos_token_id=3,
        max_position_embeddings=128,
    )
    size = {"height": 28, "width": 28}
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size)
    save(path, GitForCausalLM(config), GitProcessor(images, tokenizer))


def save_florence2(path: Path) -> None:
    """Save a model with an encoder of texts, too: florence-community/Florence-2-base."""
    tokenizer = byte_tokenizer(extra_special_tokens={"image_token": "<image>"})
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    ids: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = Florence2Config(
        vision_config={
            "depths": [1, 1],
            "patch_size": [7, 3],
            "patch_stride": [4, 2],
            "patch_padding": [3, 1],
            "patch_prenorm": [False, True],
            "embed_dim": [16, 32],
            "num_heads": [2, 4],
            "num_groups": [2, 4],
            "window_size": 4,
            "projection_dim": 32,
        },
        text_config={
            "model_type": "bart",
            "vocab_size": len(tokenizer),
            "d_model": 32,
            **{f"{part}_layers": 2 for part in ("encoder", "decoder")},
            **{f"{part}_attention_heads": 4 for part in ("encoder", "decoder")},
            **{f"{part}_ffn_dim": 48 for part in ("encoder", "decoder")},
            "max_position_embeddings": 256,
            **ids,
            "decoder_start_token_id": 2,
        },
        image_token_id=image_id,
        **ids,
    )
    size = {"height": 32, "width": 32}
    images: Any = CLIPImageProcessorPil(size=size, do_center_crop=False)
    # 16 patches of the last stage and their mean.
    images.image_seq_length = 17
    processor = Florence2Processor(images, tokenizer)
    save(path, Florence2ForConditionalGeneration(config), processor)


#: How each kind is saved, by the type in its configuration.
CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "vision-encoder-decoder": save_vit_gpt2,
    "llava": save_llava,
    "idefics3": save_idefics3,
    "qwen2_vl": save_qwen2_vl,
    "git": save_git,
    "florence2": save_florence2,
}
