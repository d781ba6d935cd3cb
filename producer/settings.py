"""Settings of a producer; the worker's settings extend them.

Order of precedence: an argument (command line, constructor), then the environment
(``BLIPLINE_<NAME>``), then the default. Built once, at the entry point, and handed down.
"""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from . import contract
from .errors import InvalidInput


class ClientSettings(BaseSettings):
    """What a producer needs to know."""

    model_config = SettingsConfigDict(env_prefix="BLIPLINE_", frozen=True, extra="forbid")

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="The Redis that carries queues, results and uploaded images",
    )
    blob_ttl_s: int = Field(
        contract.BLOB_TTL_S, ge=60, description="Seconds an uploaded image is kept"
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
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ValueError("must look like redis://[user:password@]host[:port][/database]")
        return url


def _sentences(error: ValidationError) -> str:
    prefix = ClientSettings.model_config["env_prefix"]
    return "; ".join(
        f"{prefix}{'.'.join(map(str, problem['loc'])).upper()}={problem['input']!r}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    )
