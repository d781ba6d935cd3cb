"""Settings of the gateway."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from ..net.address_policy import AddressPolicy, split_list
from ..settings import ClientSettings
from .api_keys import check_name

#: Where the page is.
PAGE: Final = "/ui"

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")


class GatewaySettings(ClientSettings):
    """What the gateway needs to know."""

    gateway_host: str = Field("127.0.0.1", min_length=1, description="Address to listen on")
    gateway_port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: a free one")
    gateway_rate: int = Field(
        600, ge=0, description="Requests that each API key may make in a minute; 0: any"
    )
    gateway_max_body_mb: int = Field(4096, ge=1, description="MiB of one upload of a batch at most")
    gateway_max_image_mb: int = Field(64, ge=1, le=64, description="MiB of one image at most")
    gateway_max_items: int = Field(10_000_000, ge=1, description="Items of one batch at most")
    gateway_max_wait_s: int = Field(
        60, ge=0, le=3600, description="Seconds that `Prefer: wait` may hold a request at most"
    )
    gateway_upload_wait_s: int = Field(
        30, ge=0, le=3600, description="Seconds that an upload waits for room before it ends as 429"
    )
    gateway_cors_origins: str = Field(
        "",
        description="Origins of pages that may call it, with commas between; *: all; unset: none",
    )
    webhook_allow: str = Field(
        "", description="Hosts that webhooks may go to although their address is not public"
    )
    webhook_deny: str = Field("", description="Hosts that webhooks may never go to")
    webhook_only: str = Field(
        "", description="The only hosts that webhooks may go to; unset: all that are public"
    )
    webhook_tries: int = Field(8, ge=1, le=30, description="How often a webhook is tried at most")
    page: bool = Field(True, description="Serve the page at /ui, where its extra is installed")
    page_open_as: str = Field(
        "", description="Name that the page works under without a key; loopback only"
    )

    @property
    def cors_origins(self) -> tuple[str, ...]:
        """Origins of pages that may call it."""
        return split_list(self.gateway_cors_origins)

    @property
    def max_body_bytes(self) -> int:
        """Bytes of one upload of a batch at most."""
        return self.gateway_max_body_mb << 20

    @property
    def max_image_bytes(self) -> int:
        """Bytes of one image at most."""
        return self.gateway_max_image_mb << 20

    def webhook_guard(self) -> AddressPolicy:
        """Which hosts webhooks may go to."""
        hosts = (self.webhook_allow, self.webhook_deny, self.webhook_only)
        return AddressPolicy(*map(split_list, hosts))

    @field_validator("gateway_cors_origins")
    @classmethod
    def _check_origins(cls, origins: str) -> str:
        for origin in split_list(origins):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"must hold origins as browsers send them, https://www.example.com, with "
                    f"commas between, or be *, and {origin!r} is none"
                )
        return origins

    @field_validator("webhook_allow", "webhook_deny", "webhook_only")
    @classmethod
    def _check_hosts(cls, hosts: str) -> str:
        AddressPolicy(split_list(hosts))
        return hosts

    @field_validator("page_open_as")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name:
            check_name(name)
        return name

    @model_validator(mode="after")
    def _check_open_page(self) -> Self:
        if self.page_open_as and not _is_loopback(self.gateway_host):
            raise ValueError(
                "BLIPLINE_PAGE_OPEN_AS opens the page to everybody who reaches it, so it needs "
                "BLIPLINE_GATEWAY_HOST=127.0.0.1"
            )
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
