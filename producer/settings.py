"""Settings of a producer; the worker's settings extend them.

Order of precedence: an argument (command line, constructor), then the environment
(``BLIPLINE_<NAME>``), then the default. Built once, at the entry point, and handed down.
"""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from . import contract
from .connection.url import Address, redact_password
from .errors import InvalidInput


class ClientSettings(BaseSettings):
    """What a producer needs to know."""

    model_config = SettingsConfigDict(
        env_prefix="BLIPLINE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="The Redis that carries queues, results and uploaded images",
    )
    key_prefix: str = Field(
        "", description="Begins every key in Redis, so that deployments can share a server"
    )
    blob_ttl_s: int = Field(
        contract.BLOB_TTL_S,
        ge=1,
        description="Seconds an uploaded image is kept after the last job that names it",
    )
    submitter: str = Field(
        "",
        description="Whose turn in the queues jobs take; unset: each batch has turns of its own",
    )
    max_queued_interactive: int = Field(
        10_000, ge=0, description="Items that `interactive` takes while so many are open; 0: all"
    )
    max_queued_bulk: int = Field(
        10_000_000, ge=0, description="Items that `bulk` takes while so many are open; 0: all"
    )
    replicas: int = Field(
        0, ge=0, description="Replicas of Redis that must have a job before it counts as submitted"
    )
    max_blob_mb: int = Field(
        4096, ge=0, description="MiB of uploaded images that open jobs may name; 0: any"
    )

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Build from arguments (None: not given), the environment and the defaults.

        Raises InvalidInput with a sentence for each wrong setting, named as in the environment.
        """
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise InvalidInput(_sentences(error)) from None

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str) -> str:
        Address.parse(url)
        return url

    @field_validator("submitter")
    @classmethod
    def _check_submitter(cls, submitter: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._@:-]{0,64}", submitter):
            raise ValueError("must have at most 64 letters, digits and . _ @ : - alone")
        return submitter

    @field_validator("key_prefix")
    @classmethod
    def _check_key_prefix(cls, prefix: str) -> str:
        # Celery's own result backend adds an underscore to a prefix that ends otherwise, and so
        # would look for results elsewhere.
        if prefix and not re.fullmatch(r"[A-Za-z0-9._:-]{0,63}[._:-]", prefix):
            raise ValueError(
                "must have at most 64 characters, letters, digits and . _ : - alone, and end with "
                "one of . _ : -"
            )
        return prefix


def _sentences(error: ValidationError) -> str:
    return "; ".join(_sentence(problem) for problem in error.errors())


def _sentence(problem: Any) -> str:
    about = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        # It is about several settings: the input is all of them, passwords included.
        return about
    name = ClientSettings.model_config["env_prefix"] + ".".join(map(str, problem["loc"])).upper()
    return f"{name}={_shown(problem['input'])!r}: {about}"


def _shown(value: Any) -> Any:
    return redact_password(value) if isinstance(value, str) else value
