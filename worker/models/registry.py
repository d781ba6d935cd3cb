"""The model families, and `load`, which selects one by the checkpoint's configuration."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from worker.engine.errors import LoadError
from worker.hub.reference import Snapshot
from worker.hub.resolver import resolve

if TYPE_CHECKING:
    import torch

    from worker.engine.model import AnyModel

#: Question template of BLIP-2 (model card of Salesforce/blip2-opt-2.7b).
VQA_TEMPLATE: Final = "Question: {question} Answer:"
#: Side of the square with the maximum pixels of an image for a model with its own processor.
IMAGE_SIDE: Final = 1024
PRECISIONS: Final = ("fp32", "bf16", "fp16", "int8", "int4")


class Family(NamedTuple):
    """A kind of checkpoint, identified by its configuration."""

    architecture: str
    #: Type of the language model; None if the architecture has only one.
    language: str | None
    example: str
    #: Module of this package, and its class whose `open` loads the checkpoint.
    module: str
    class_name: str

    def fits(self, config: Any) -> bool:
        """Return whether a configuration belongs to the family."""
        if self.architecture not in (config.architectures or ()):
            return False
        return self.language in (None, getattr(config.text_config, "model_type", None))


#: Supported families, by the names in a checkpoint's config.json.
FAMILIES: Final = (
    Family("Blip2ForConditionalGeneration", "opt", "Salesforce/blip2-opt-2.7b", "blip2", "Blip2"),
    Family("Blip2ForConditionalGeneration", "t5", "Salesforce/blip2-flan-t5-xl", "blip2", "Blip2"),
    Family(
        "InstructBlipForConditionalGeneration",
        "t5",
        "Salesforce/instructblip-flan-t5-xl",
        "instructblip",
        "InstructBlip",
    ),
    Family(
        "InstructBlipForConditionalGeneration",
        "llama",
        "Salesforce/instructblip-vicuna-7b",
        "instructblip",
        "InstructBlip",
    ),
    Family(
        "BlipForConditionalGeneration",
        None,
        "Salesforce/blip-image-captioning-base",
        "blip_caption",
        "BlipCaption",
    ),
    Family("BlipForQuestionAnswering", None, "Salesforce/blip-vqa-base", "blip_vqa", "BlipVqa"),
    Family(
        "BlipForImageTextRetrieval",
        None,
        "Salesforce/blip-itm-base-coco",
        "blip_retrieval",
        "BlipRetrieval",
    ),
    Family(
        "Blip2ForImageTextRetrieval",
        None,
        "Salesforce/blip2-itm-vit-g",
        "blip2_retrieval",
        "Blip2Retrieval",
    ),
)

#: Every other model of transformers' AutoModelForImageTextToText: slower, in groups.
GROUPED: Final = Family(
    "", None, "HuggingFaceTB/SmolVLM-256M-Instruct", "image_text.model", "ImageTextModel"
)


def load(
    model: str | Snapshot,
    precision: str = "auto",
    device: str = "auto",
    vqa_template: str = VQA_TEMPLATE,
    image_side: int = IMAGE_SIDE,
    image_backend: str = "auto",
) -> AnyModel:
    """Load a model from its snapshot, a directory or by its hub name. Raises LoadError.

    `device` is auto, cpu or cuda (or cuda:0 and so on); `precision` auto is fp16 on a GPU (bf16 for
    T5) and fp32 on a CPU. `vqa_template` formats BLIP-2's questions; other families read a question
    unchanged. `image_side` bounds the images of a model with a processor of its own.
    `image_backend` is pil, torchvision, or auto for that of transformers' AutoImageProcessor.
    """
    # A late import: transformers takes seconds to load.
    from worker.models import checkpoint

    if precision not in ("auto", *PRECISIONS):
        raise LoadError(f"Unknown precision {precision!r}; use one of {', '.join(PRECISIONS)}.")
    if "{question}" not in vqa_template:
        raise LoadError("The question template must contain {question}.")
    target = checkpoint.pick_device(device)
    snapshot = resolve(model) if isinstance(model, str) else model
    config = checkpoint.read_config(snapshot)
    if precision == "auto":
        precision = default_precision(config, target)
    family = find_family(snapshot.name, config)
    settings: dict[str, Any] = {"image_backend": image_backend}
    if family is GROUPED:
        settings["image_side"] = image_side
    elif family.module == "blip2":
        settings["vqa_template"] = vqa_template
    model_class = getattr(import_module(f"worker.models.{family.module}"), family.class_name)
    loaded: AnyModel
    try:
        loaded = model_class.open(snapshot, config, precision, target, **settings)
    except LoadError:
        raise
    except Exception as error:
        # A configuration that lacks a number, for example. A restart would not mend it.
        raise checkpoint.load_error(snapshot, error) from error
    return loaded


def default_precision(config: Any, device: torch.device) -> str:
    """Return fp32 on a CPU; on a GPU fp16, but bf16 for T5 and models that were trained in bf16."""
    if device.type != "cuda":
        return "fp32"
    if is_grouped(config):
        return "bf16"
    language = getattr(getattr(config, "text_config", None), "model_type", None)
    return "bf16" if language == "t5" else "fp16"


def find_family(model: str, config: Any) -> Family:
    """Return the family of a configuration. Raises LoadError with a list of supported models."""
    for family in FAMILIES:
        if family.fits(config):
            return family
    if is_grouped(config):
        return GROUPED
    language = getattr(getattr(config, "text_config", None), "model_type", None)
    name = ", ".join(config.architectures or ()) or "a model of no architecture"
    with_language = f" with {language}" if language else ""
    supported = "; ".join(
        f"{f.architecture}{f' with {f.language}' if f.language else ''} ({f.example})"
        for f in FAMILIES
    )
    raise LoadError(
        f"Model {model!r} is {name} of type {config.model_type}{with_language}, which generates no"
        f" text for images; supported models are {supported}; and those of transformers'"
        f" AutoModelForImageTextToText ({GROUPED.example})."
    )


def is_grouped(config: Any) -> bool:
    """Return whether a configuration is of a model that runs in groups."""
    # A late import: transformers takes seconds to load.
    from worker.models.image_text.architectures import is_image_text

    return not any(family.fits(config) for family in FAMILIES) and is_image_text(config)
