"""The settings of the worker processes of one machine."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from config.adapters import parse_adapters
from config.devices import parse_devices
from config.run_dirs import default_parent
from config.stores import parse_prefix
from producer import contract
from producer.net.address_policy import AddressPolicy, split_list
from producer.settings import ProcessSettings

_DEMO = Path(__file__).resolve().parent.parent / "demo"
DEMO_MODEL = _DEMO / "model"
DEMO_MATCH_MODEL = _DEMO / "match_model"
#: The setting for no model, which measures the queue: each item is answered immediately with its
#: `custom_id`.
NULL_MODEL = "null"


class WorkerSettings(ProcessSettings):
    """The settings of the process tree of one accelerator."""

    model: str = Field(
        str(DEMO_MODEL),
        description="Checkpoint directory or hub name, such as Salesforce/blip2-opt-2.7b, or "
        "modelscope:owner/name; a hub name may end with @ and a revision",
    )
    model_revision: str = Field(
        "", description="Branch, tag or commit of MODEL on the hub; unset: main"
    )
    adapter: str = Field(
        "",
        description="Adapter of peft (LoRA and others) that is merged into MODEL: directory or hub "
        "name; none: leave out one beside its weights",
    )
    adapters: str = Field(
        "",
        description="Adapters of MODEL that items choose by name, as red=./lora-red,blue=me/lora "
        "(LoRA alone): directories or hub names",
    )
    match_model: str = Field(
        "auto",
        description="Additional retrieval model; `none`; `auto`: the demo retrieval model if the "
        "demo model is used, otherwise none",
    )
    offline: bool = Field(
        False, description="Send no request to the hub: models are in directories or its cache"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8", "int4"] = Field(
        "auto", description="auto is fp16 on a GPU (bf16 for T5) and fp32 on a CPU"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")
    devices: str = Field(
        "",
        description="Devices with a process tree each: all GPUs, numbers of GPUs as 0,1,3, or "
        "cpu:<n> for n trees that share the cores; unset: one tree on DEVICE",
    )
    max_rows: int = Field(64, ge=1, le=4096, description="Maximum rows decoded together")
    cuda_graphs: bool = Field(True, description="Replay decode steps on a GPU as CUDA graphs")
    feature_cache_mb: int = Field(
        256, ge=0, description="MiB of device memory for cached image features"
    )
    answer_cache_s: int = Field(
        3600,
        ge=0,
        description="Seconds that the result cache in Redis keeps results; 0: no cache",
    )
    answer_cache_mb: int = Field(
        1024, ge=0, description="Maximum MiB of the result cache in Redis; 0: unlimited"
    )
    cpu_threads: int = Field(
        0,
        ge=0,
        description="Threads of a model step on a CPU; 0: all, or one fewer if decoding images "
        "takes longer",
    )
    vqa_template: str = Field(
        "Question: {question} Answer:",
        description="Template of a BLIP-2 question; must contain {question}",
    )
    interactive_slots: int = Field(
        16, ge=1, le=1024, description="Interactive messages processed concurrently"
    )
    bulk_slots: int = Field(8, ge=1, le=1024, description="Bulk chunks processed concurrently")
    image_root: Path | None = Field(
        None, description="Root directory of file: references; unset: no files are read"
    )
    max_image_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="Maximum bytes of an encoded image"
    )
    max_image_pixels: int = Field(
        64_000_000, ge=4096, description="Maximum pixels of an image, checked before decoding"
    )
    image_side: int = Field(
        1024,
        ge=32,
        le=8192,
        description="A model that resizes images itself gets at most the pixels of a square with "
        "this side",
    )
    image_backend: Literal["auto", "torchvision", "pil"] = Field(
        "auto",
        description="Image processor whose pixels BLIP models get: torchvision (faster), pil, or "
        "auto: torchvision where it is installed",
    )
    image_memory_mb: int = Field(
        0,
        ge=0,
        description="Maximum MiB of a consumer's images, half for encoded images and half for "
        "decoding; "
        "0: 1024, or 128 per core if that is more",
    )
    jpeg_draft: int = Field(
        0,
        ge=0,
        le=8,
        description="Decode JPEGs at this multiple of the model's input side: faster but "
        "approximate; 0: exact",
    )
    truncated_images: Literal["refuse", "accept"] = Field(
        "refuse",
        description="refuse rejects truncated images; accept decodes their first part, with a grey "
        "rest",
    )
    fetch_timeout_s: float = Field(
        20.0, gt=0, description="Maximum seconds to fetch an image from its host"
    )
    fetch_per_host: int = Field(
        8, ge=1, description="Images that a consumer fetches from one host concurrently"
    )
    fetch_allow: str = Field(
        "", description="Hosts that are allowed although their address is not public (SSRF guard)"
    )
    fetch_deny: str = Field("", description="Hosts that are always denied")
    fetch_only: str = Field(
        "", description="The only hosts that are allowed; unset: all public hosts"
    )
    fetch_stores: str = Field(
        "", description="Allowed prefixes in object stores, as s3://bucket/path/; unset: none"
    )
    polish_url: str = Field(
        "",
        description="OpenAI-compatible endpoint that polishes descriptions, as "
        "http://127.0.0.1:8080/v1; unset: none",
    )
    polish_model: str = Field(
        "", description="Name of the language model at POLISH_URL", validate_default=True
    )
    polish_key: str = Field("", description="API key of POLISH_URL", repr=False)
    step_timeout_s: float = Field(
        120.0, gt=0, description="Seconds after which a model step counts as hung"
    )
    engine_wait_s: float = Field(
        120.0, gt=0, description="Maximum seconds that a row waits for an engine to restart"
    )
    lease_s: float = Field(
        30.0,
        ge=1,
        description="Seconds without a heartbeat after which a consumer's jobs are redelivered",
    )
    visibility_timeout_s: float = Field(
        600.0,
        ge=1,
        description="Seconds after which Celery redelivers an unacknowledged message",
    )
    sweep_s: float = Field(
        5.0, ge=0, description="Seconds between sweeps for lost jobs; 0: no sweeps"
    )
    grace_s: float = Field(
        60.0, gt=0, description="Maximum seconds to finish running jobs after SIGTERM"
    )
    default_queue: str = Field(
        "celery",
        description="Celery queue for callbacks and other tasks that are not Blipline's: the "
        "default queue of the programs that send them",
    )
    ready_file: Path | None = Field(
        None,
        description="File that exists while the worker takes jobs; unset: `ready` in RUN_DIR",
    )
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the worker's Prometheus metrics; 0: none"
    )
    run_dir: Path | None = Field(
        None, description="Private directory for the engine's socket and the readiness files"
    )

    @field_validator("vqa_template")
    @classmethod
    def _check_vqa_template(cls, template: str) -> str:
        if "{question}" not in template:
            raise ValueError("must contain {question}")
        return template

    @field_validator("adapters")
    @classmethod
    def _check_adapters(cls, adapters: str) -> str:
        parse_adapters(adapters)
        return adapters

    @field_validator("polish_url")
    @classmethod
    def _check_polish_url(cls, url: str) -> str:
        if url and (not url.startswith(("http://", "https://")) or not urlsplit(url).hostname):
            raise ValueError("must be http://host/… or https://host/…")
        return url

    @field_validator("polish_model")
    @classmethod
    def _check_polish_model(cls, model: str, info: ValidationInfo) -> str:
        if info.data.get("polish_url") and not model:
            raise ValueError("POLISH_URL needs the name of a model")
        return model

    @field_validator("default_queue")
    @classmethod
    def _check_default_queue(cls, queue: str) -> str:
        if not queue or queue in [*contract.Queue]:
            raise ValueError("must be the queue of another worker, not interactive or bulk")
        return queue

    @field_validator("device")
    @classmethod
    def _check_device(cls, device: str) -> str:
        kind, _, index = device.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (index and not index.isdecimal()):
            raise ValueError("choose auto, cpu, cuda or cuda:<n>")
        return device

    @field_validator("devices")
    @classmethod
    def _check_devices(cls, devices: str, info: ValidationInfo) -> str:
        if parse_devices(devices) and info.data.get("device", "auto") != "auto":
            raise ValueError("DEVICE is set, too; unset one of them")
        return devices

    @field_validator("image_root")
    @classmethod
    def _check_image_root(cls, root: Path | None) -> Path | None:
        if root is not None and not root.is_dir():
            raise ValueError("must be an existing directory")
        return root

    @field_validator("fetch_allow", "fetch_deny", "fetch_only")
    @classmethod
    def _check_hosts(cls, hosts: str) -> str:
        AddressPolicy(split_list(hosts))
        return hosts

    @field_validator("fetch_stores")
    @classmethod
    def _check_stores(cls, stores: str) -> str:
        for prefix in split_list(stores):
            parse_prefix(prefix)
        return stores

    def fetch_policy(self) -> AddressPolicy:
        """Return the address policy of image fetches: the SSRF guard."""
        return AddressPolicy(
            split_list(self.fetch_allow), split_list(self.fetch_deny), split_list(self.fetch_only)
        )

    def match_model_path(self) -> str | None:
        """Return the additional retrieval model, or None."""
        if self.match_model == "auto":
            return str(DEMO_MATCH_MODEL) if self.model == str(DEMO_MODEL) else None
        return self.match_model if self.match_model not in ("", "none") else None

    def checkpoints(self) -> list[tuple[str, str, str, list[tuple[str, str]]]]:
        """Return models, revisions, merged and named adapters, as `worker.hub` reads them."""
        match_model = self.match_model_path()
        if self.model == NULL_MODEL:
            return []
        own = (self.model, self.model_revision, self.adapter, parse_adapters(self.adapters))
        return [own] if match_model is None else [own, (match_model, "", "", [])]

    def runtime_dir(self) -> Path:
        """Return the directory that this machine's consumers and their engine share.

        The default depends on user, Redis, models, precision and device, so that consumers of the
        same engine have the same directory.
        """
        if self.run_dir is not None:
            return self.run_dir
        deployment = f"{self.redis_url} {self.key_prefix}".rstrip()
        models = f"{self.model} {self.match_model} {self.precision} {self.device}"
        models = f"{models} {self.model_revision} {self.adapter} {self.adapters}".rstrip()
        models = f"{models} devices {self.devices}" if self.devices else models
        digest = hashlib.sha256(f"{deployment} {models}".encode()).hexdigest()[:12]
        return default_parent() / digest

    def environment(self) -> dict[str, str]:
        """Return these settings as environment variables of a child process."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"BLIPLINE_{name.upper()}": str(value) for name, value in values.items()}
