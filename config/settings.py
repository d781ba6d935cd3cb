"""The worker's settings: every knob of one machine, in one place."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from config.stores import parse_prefix
from producer.net.address_policy import AddressPolicy, split_list
from producer.settings import ClientSettings

_DEMO = Path(__file__).resolve().parent.parent / "demo"
DEMO_MODEL = _DEMO / "model"
DEMO_MATCH_MODEL = _DEMO / "match_model"
#: In place of a model: every item is answered at once with its `custom_id`, to measure the queue.
NULL_MODEL = "null"


class WorkerSettings(ClientSettings):
    """What the process tree of one accelerator needs to know."""

    model: str = Field(
        str(DEMO_MODEL),
        description="Checkpoint directory or hub name, such as Salesforce/blip2-opt-2.7b",
    )
    match_model: str = Field(
        "auto",
        description="Retrieval model beside it; none; auto: the demo's with the demo model",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8", "int4"] = Field(
        "auto", description="auto is fp16 on a GPU (bf16 for T5) and fp32 on a CPU"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")
    max_rows: int = Field(64, ge=1, le=4096, description="Rows decoded together at most")
    cuda_graphs: bool = Field(True, description="Replay decode steps on a GPU as graphs")
    feature_cache_mb: int = Field(
        256, ge=0, description="MiB of device memory that keep image features for later questions"
    )
    answer_cache_s: int = Field(
        3600,
        ge=0,
        description="Seconds that answers are kept in Redis for who asks the same; 0: not at all",
    )
    cpu_threads: int = Field(
        0,
        ge=0,
        description="Threads of one model step on a CPU; 0: all, less one if images take longer",
    )
    vqa_template: str = Field(
        "Question: {question} Answer:", description="How a question reaches BLIP-2"
    )
    interactive_slots: int = Field(
        16, ge=1, le=1024, description="Interactive messages handled at once"
    )
    bulk_slots: int = Field(8, ge=1, le=1024, description="Bulk chunks handled at once")
    image_root: Path | None = Field(
        None, description="Directory that file: references may name; unset: none may"
    )
    max_image_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="Bytes of one encoded image at most"
    )
    max_image_pixels: int = Field(
        64_000_000, ge=4096, description="Pixels of one image at most, known before it is decoded"
    )
    image_memory_mb: int = Field(
        0,
        ge=0,
        description="MiB of a consumer for images, half before and half while they are decoded; "
        "0: 1024, or 128 for each core if that is more",
    )
    jpeg_draft: int = Field(
        0,
        ge=0,
        le=8,
        description="Decode JPEGs at this multiple of the model's side: fast, not exact; 0: exact",
    )
    fetch_timeout_s: float = Field(
        20.0, gt=0, description="Seconds that fetching one image from its host may take"
    )
    fetch_per_host: int = Field(
        8, ge=1, description="Images fetched from one host at once, by each consumer"
    )
    fetch_allow: str = Field(
        "", description="Hosts that may be fetched from although their address is not public"
    )
    fetch_deny: str = Field("", description="Hosts that may never be fetched from")
    fetch_only: str = Field(
        "", description="The only hosts that may be fetched from; unset: all that are public"
    )
    fetch_stores: str = Field(
        "", description="What of stores may be read, as s3://bucket/path/; unset: nothing"
    )
    step_timeout_s: float = Field(
        120.0, gt=0, description="Seconds that a step may take before its engine counts as hung"
    )
    engine_wait_s: float = Field(
        120.0, gt=0, description="Seconds a row waits for an engine that is starting again"
    )
    lease_s: float = Field(
        30.0,
        ge=1,
        description="Seconds without a sign of life after which a consumer's work is given to "
        "another",
    )
    visibility_timeout_s: float = Field(
        600.0,
        ge=1,
        description="Seconds after which Celery delivers a message again that nobody acknowledged",
    )
    sweep_s: float = Field(
        5.0, ge=0, description="Seconds between two looks for work that was lost; 0: none"
    )
    grace_s: float = Field(
        60.0, gt=0, description="Seconds that SIGTERM leaves to finish what was begun"
    )
    ready_file: Path | None = Field(
        None, description="Exists while this machine takes jobs; unset: `ready` in the run dir"
    )
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the engine's figures for Prometheus; 0: none"
    )
    run_dir: Path | None = Field(
        None, description="Private directory of the engine's socket and the readiness files"
    )

    @field_validator("vqa_template")
    @classmethod
    def _check_vqa_template(cls, template: str) -> str:
        if "{question}" not in template:
            raise ValueError("must contain {question}")
        return template

    @field_validator("device")
    @classmethod
    def _check_device(cls, device: str) -> str:
        kind, _, index = device.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (index and not index.isdecimal()):
            raise ValueError("choose auto, cpu, cuda or cuda:<n>")
        return device

    @field_validator("image_root")
    @classmethod
    def _check_image_root(cls, root: Path | None) -> Path | None:
        if root is not None and not root.is_dir():
            raise ValueError("must be a directory that exists")
        return root

    @field_validator("fetch_allow", "fetch_deny", "fetch_only")
    @classmethod
    def _check_hosts(cls, hosts: str) -> str:
        AddressPolicy(split_list(hosts))
        return hosts

    @field_validator("fetch_stores")
    @classmethod
    def _check_stores(cls, stores: str) -> str:
        for entry in split_list(stores):
            parse_prefix(entry)
        return stores

    def fetch_guard(self) -> AddressPolicy:
        """Which hosts images may be fetched from."""
        return AddressPolicy(
            split_list(self.fetch_allow), split_list(self.fetch_deny), split_list(self.fetch_only)
        )

    def matcher(self) -> str | None:
        """The retrieval model that is loaded beside the other, if any."""
        if self.match_model == "auto":
            return str(DEMO_MATCH_MODEL) if self.model == str(DEMO_MODEL) else None
        return self.match_model if self.match_model not in ("", "none") else None

    def runtime_dir(self) -> Path:
        """The directory where this machine's consumers and their engine meet.

        By default one for each user, model and device: consumers that want the same engine find it.
        """
        if self.run_dir is not None:
            return self.run_dir
        where = f"{self.redis_url} {self.key_prefix}".rstrip()
        wanted = f"{where} {self.model} {self.match_model} {self.precision} {self.device}"
        digest = hashlib.sha256(wanted.encode()).hexdigest()[:12]
        root = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        return Path(root) / f"blipline-{os.getuid()}" / digest

    def environment(self) -> dict[str, str]:
        """These settings as the environment of a child process."""
        given = self.model_dump(mode="json", exclude_none=True)
        return {f"BLIPLINE_{name.upper()}": str(value) for name, value in given.items()}
