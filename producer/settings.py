"""Settings of a producer; the worker's settings extend them.

Order of precedence: an argument (command line, constructor), then the environment
(``BLIPLINE_<NAME>``), then the default. The entry point builds them once, and hands them down.
"""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from . import contract
from .connection.url import Address, redact_password
from .errors import InvalidInput


class ClientSettings(BaseSettings):
    """The settings of a producer."""

    model_config = SettingsConfigDict(
        env_prefix="BLIPLINE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="URL of the Redis server for queues, results and uploaded images",
    )
    key_prefix: str = Field(
        "", description="Prefix of every key in Redis, so that deployments can share a server"
    )
    blob_ttl_s: int = Field(
        contract.BLOB_TTL_S,
        ge=1,
        description="Seconds that Redis keeps an uploaded image after its last job has ended",
    )
    submitter: str = Field(
        "",
        description="Submitter queue of the jobs; unset: one per batch, and one for single jobs",
    )
    max_queued_interactive: int = Field(
        10_000, ge=0, description="Maximum open items in `interactive`; 0: unlimited"
    )
    max_queued_bulk: int = Field(
        10_000_000, ge=0, description="Maximum open items in `bulk`; 0: unlimited"
    )
    replicas: int = Field(
        0,
        ge=0,
        description="Replicas of Redis that must acknowledge a job before `submit` returns",
    )
    redis_wait_s: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="Seconds that calls and waits ride out an outage of Redis that answered "
        "before; 0: fail at once",
    )
    max_connections: int = Field(
        100,
        ge=1,
        description="Maximum connections of a client to Redis; further threads wait for one",
    )
    max_blob_mb: int = Field(
        4096, ge=0, description="Maximum MiB of uploaded images that open jobs name; 0: unlimited"
    )

    @property
    def max_account_bytes(self) -> int:
        """Maximum bytes that Redis stores for one name of API keys; 0: unlimited."""
        return 0

    @property
    def max_total_bytes(self) -> int:
        """Maximum bytes that Redis stores for all names together; 0: unlimited."""
        return 0

    @classmethod
    def load(cls, **arguments: Any) -> Self:
        """Build the settings from arguments (None: not passed), the environment and the defaults.

        Raise InvalidInput with a message for each invalid setting, named as in the environment.
        """
        try:
            return cls(**{name: value for name, value in arguments.items() if value is not None})
        except ValidationError as error:
            raise InvalidInput("; ".join(map(_message, error.errors()))) from None

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str) -> str:
        Address.parse(url)
        return url

    @field_validator("submitter")
    @classmethod
    def _check_submitter(cls, submitter: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._@:-]{0,64}", submitter):
            raise ValueError("must have at most 64 characters: letters, digits and . _ @ : -")
        return submitter

    @field_validator("key_prefix")
    @classmethod
    def _check_key_prefix(cls, prefix: str) -> str:
        # Celery's result backend adds an underscore to a prefix with another last character, and
        # would read results from other keys.
        if prefix and not re.fullmatch(r"[A-Za-z0-9._:-]{0,63}[._:-]", prefix):
            raise ValueError(
                "must have at most 64 characters (letters, digits and . _ : -) and end with "
                "one of . _ : -"
            )
        return prefix


class ProcessSettings(ClientSettings):
    """The settings of a process that runs for long: a gateway or a worker."""

    log_format: Literal["human", "json"] = Field(
        "human", description="Form of log lines: human, or json for one object in each line"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level of log lines: debug, info, warning or error"
    )

    @field_validator("log_format", "log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


def _message(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        # An error of several settings: its input is all of them, passwords included.
        return message
    name = ClientSettings.model_config["env_prefix"] + ".".join(map(str, error["loc"])).upper()
    value = error["input"]
    if isinstance(value, str):
        value = redact_password(value)
    return f"{name}={value!r}: {message}"
