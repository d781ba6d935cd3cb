"""What the routes of one gateway share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from ..aio import AsyncClient
from ..api_keys import ApiKeys
from .hubs import Hubs
from .keyring import Keyring
from .looks import Looks
from .metrics import Metrics
from .notes import Notes
from .settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts; `app.state.gateway` holds them from the start."""

    settings: GatewaySettings
    client: AsyncClient
    #: Calls of it wait for Redis: make them in a thread.
    keys: ApiKeys
    #: What it knows of them, for requests and for the page.
    keyring: Keyring
    metrics: Metrics
    notes: Notes = field(default_factory=Notes)
    looks: Looks = field(default_factory=Looks)
    hubs: Hubs = field(default_factory=Hubs)
    #: Set when the process is told to end: what is open without an end in sight ends now.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


async def gateway_of(request: Request) -> Gateway:
    """The parts of the gateway that answers a request."""
    gateway: Gateway = request.app.state.gateway
    return gateway


#: For the routes. Asynchronous, though nothing is awaited: FastAPI calls others in a thread.
GatewayDependency = Annotated[Gateway, Depends(gateway_of)]
