"""Shared state of the gateway: the components that its routes use."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

import redis
from fastapi import Depends, Request

from ..aio.client import AsyncClient
from ..aio.single_flight import SingleFlight
from .access.concurrency import ConcurrencyLimiter
from .access.daily_quotas import DailyQuotas
from .access.image_access import NO_PRIVATE_IMAGES, ImageAccess
from .access.key_cache import KeyCache
from .access.rate_limit import RateLimiter
from .access.tenants import Tenant
from .batches.broadcast import BatchBroadcaster, ProgressReader
from .http.metrics import Metrics
from .http.redis_calls import RedisCalls
from .images.uploads import UploadSlots
from .jobs.listing import JobListing
from .jobs.request_body import BodyReader
from .schemas.metadata import MetadataCache
from .settings import GatewaySettings
from .webhooks.webhook_guard import WebhookGuard
from .webhooks.webhook_pings import WebhookPings


@dataclass(frozen=True, slots=True)
class Gateway:
    """The components of one gateway; stored as `app.state.gateway`."""

    settings: GatewaySettings
    #: Limits of requests and of the page.
    rate_limiter: RateLimiter
    daily_quotas: DailyQuotas
    concurrency: ConcurrencyLimiter
    client: AsyncClient
    #: Lists of jobs and batches; its methods block.
    listing: JobListing
    #: Redis for what the client has no method for, and the threads that call it.
    connection: redis.Redis
    redis_calls: RedisCalls
    #: API keys, for requests and for the page.
    key_cache: KeyCache
    metrics: Metrics
    progress_reader: ProgressReader
    broadcaster: BatchBroadcaster
    #: Set when the process shuts down, to end long polls and streams.
    stopping: asyncio.Event
    webhook_guard: WebhookGuard
    webhook_pings: WebhookPings
    metadata_cache: MetadataCache = field(default_factory=MetadataCache)
    body_reader: BodyReader = field(default_factory=BodyReader)
    upload_slots: UploadSlots = field(default_factory=UploadSlots)
    #: Retries in progress, by the batch's inner id; each returns the number of items retried.
    batch_retries: SingleFlight[str, int] = field(default_factory=SingleFlight)

    def image_access(self, tenant: Tenant) -> ImageAccess:
        """Return the private images that a tenant's requests may name."""
        is_allowed = self.settings.gateway_private_images
        return ImageAccess(tenant.policy.image_prefixes) if is_allowed else NO_PRIVATE_IMAGES


def gateway_of(request: Request) -> Gateway:
    """Return the gateway that serves a request."""
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _gateway_of(request: Request) -> Gateway:
    # FastAPI runs a dependency that is not asynchronous in a thread.
    return gateway_of(request)


#: Dependency of routes.
GatewayDependency = Annotated[Gateway, Depends(_gateway_of)]
