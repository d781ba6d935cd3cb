"""What the routes of one gateway share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from ..aio.batching import SingleFlight
from ..aio.client import AsyncClient
from .broadcast import BatchBroadcaster, ProgressReader
from .key_cache import KeyCache
from .metadata import MetadataCache
from .metrics import Metrics
from .request_body import BodyReader
from .settings import GatewaySettings
from .uploads import UploadSlots


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts; `app.state.gateway` holds them from the start."""

    settings: GatewaySettings
    client: AsyncClient
    #: Who calls: for requests, and for the page.
    keyring: KeyCache
    metrics: Metrics
    looks: ProgressReader
    hubs: BatchBroadcaster
    #: Set when the process is told to end: what is open without an end in sight ends now.
    stopping: asyncio.Event
    notes: MetadataCache = field(default_factory=MetadataCache)
    intake: BodyReader = field(default_factory=BodyReader)
    upload_slots: UploadSlots = field(default_factory=UploadSlots)
    #: Of whole batches, by their id inside; how many items were asked again.
    retries: SingleFlight[str, int] = field(default_factory=SingleFlight)


def gateway_of(request: Request) -> Gateway:
    """The parts of the gateway that answers a request."""
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _gateway_of(request: Request) -> Gateway:
    # FastAPI calls in a thread what is not asynchronous.
    return gateway_of(request)


#: For the routes.
GatewayDependency = Annotated[Gateway, Depends(_gateway_of)]
