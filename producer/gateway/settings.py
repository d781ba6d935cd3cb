"""Settings of the gateway."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from ..net.address_policy import AddressPolicy, split_list
from ..settings import ProcessSettings
from .access.api_keys import check_name

#: Path of the page.
PAGE_PATH: Final = "/ui"

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")


class GatewaySettings(ProcessSettings):
    """Settings of the gateway process, in addition to those of clients."""

    gateway_host: str = Field("127.0.0.1", min_length=1, description="Address to listen on")
    gateway_port: int = Field(
        8000, ge=0, le=65535, description="Port to listen on; 0 selects a free port"
    )
    gateway_rate: int = Field(
        600, ge=0, description="Maximum requests per minute and API key; 0: unlimited"
    )
    gateway_max_concurrent: int = Field(
        512,
        ge=0,
        description="Maximum concurrent requests of one name, event streams and waits included; "
        "0: unlimited",
    )
    gateway_private_images: bool = Field(
        True,
        description="Accept `file:` and object store references, which workers read with their "
        "own rights",
    )
    gateway_max_body_mb: int = Field(4096, ge=1, description="Maximum MiB of one batch upload")
    gateway_max_image_mb: int = Field(64, ge=1, le=64, description="Maximum MiB of one image")
    gateway_max_items: int = Field(10_000_000, ge=1, description="Maximum items of one batch")
    gateway_max_wait_s: int = Field(
        60, ge=0, le=3600, description="Maximum seconds of `Prefer: wait` (long polling)"
    )
    gateway_upload_wait_s: int = Field(
        30,
        ge=0,
        le=3600,
        description="Seconds that an upload waits while the queue is full, before a 429 response",
    )
    gateway_quota_mb: int = Field(
        2048,
        ge=0,
        description="Maximum MiB that Redis stores for one name: images, items, results; "
        "0: unlimited",
    )
    gateway_total_quota_mb: int = Field(
        6144, ge=0, description="Maximum MiB that Redis stores for all names; 0: unlimited"
    )
    gateway_cors_origins: str = Field(
        "",
        description="Comma-separated origins whose pages may call the gateway (CORS); * allows all",
    )
    webhook_allow: str = Field(
        "", description="Webhook hosts that are allowed although their addresses are not public"
    )
    webhook_deny: str = Field("", description="Webhook hosts that are always blocked")
    webhook_only: str = Field(
        "", description="If set, the only allowed webhook hosts; unset allows all public ones"
    )
    webhook_tries: int = Field(8, ge=1, le=30, description="Maximum attempts to deliver a webhook")
    page: bool = Field(True, description="Serve the page at /ui if its extra is installed")
    page_open_as: str = Field(
        "", description="Name under which the page works without an API key; loopback only"
    )

    @property
    def cors_origins(self) -> tuple[str, ...]:
        """Origins whose pages may call the gateway (CORS)."""
        return split_list(self.gateway_cors_origins)

    @property
    def max_account_bytes(self) -> int:
        """Maximum bytes that Redis stores for one name; 0: unlimited."""
        return self.gateway_quota_mb << 20

    @property
    def max_total_bytes(self) -> int:
        """Maximum bytes that Redis stores for all names together; 0: unlimited."""
        return self.gateway_total_quota_mb << 20

    @property
    def max_body_bytes(self) -> int:
        """Maximum bytes of one batch upload."""
        return self.gateway_max_body_mb << 20

    @property
    def max_image_bytes(self) -> int:
        """Maximum bytes of one image."""
        return self.gateway_max_image_mb << 20

    def webhook_address_policy(self) -> AddressPolicy:
        """Return the SSRF guard of webhooks."""
        hosts = (self.webhook_allow, self.webhook_deny, self.webhook_only)
        return AddressPolicy(*map(split_list, hosts))

    @field_validator("gateway_cors_origins")
    @classmethod
    def _check_origins(cls, origins: str) -> str:
        for origin in split_list(origins):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"must be * or comma-separated origins as browsers send them, such as "
                    f"https://www.example.com; {origin!r} is not an origin"
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
                "BLIPLINE_PAGE_OPEN_AS opens the page to every client, so it needs "
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
