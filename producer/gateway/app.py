"""The application: its parts, its layers and its routes."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import redis
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from ..aio.client import AsyncClient
from ..aio.thread_pools import ThreadPools
from ..client import Client
from ..connection.connect import connect
from ..ledger.keys import Keys
from ..ledger.ledger import Ledger
from ..webhooks.receiver import WebhookClient
from ..webhooks.sender import THREADS, WebhookSender
from . import batches, events, images, jobs, openapi, status
from .api_keys import ApiKeys
from .auth import Access
from .broadcast import BatchBroadcaster, ProgressReader
from .key_cache import KeyCache
from .metrics import Metrics
from .middleware import AnswerHeaders, BodyBounds
from .problems import Problems, add_handlers
from .rate_limit import RateLimiter
from .redis_calls import RedisCalls
from .settings import GatewaySettings
from .state import Gateway
from .webhook_body import WebhookBodies

#: What scripts of other origins may do, send and read, where they may call at all.
_CORS_METHODS: Final = ("GET", "POST", "PUT", "DELETE")
_CORS_SENT: Final = (
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Last-Event-ID",
    "Prefer",
    "X-Request-Id",
)
_CORS_READ: Final = (
    "Blipline-Status",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-Id",
)


def create_app(settings: GatewaySettings) -> FastAPI:
    """A gateway to one Redis, without the page; it connects at the first request."""
    connection = connect(settings.redis_url)
    api_keys = ApiKeys(connection, Keys(settings.key_prefix))
    threads = ThreadPools()
    calls = RedisCalls(threads, settings.redis_url)
    gateway = _gateway(settings, KeyCache(api_keys, calls))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            async with _webhooks(gateway, connection, api_keys):
                yield
        finally:
            await gateway.client.close()
            await threads.close(then=connection.close)

    app = FastAPI(
        title="Blipline",
        summary="Captions, answers, matches and embeddings of images",
        version=_version(),
        lifespan=lifespan,
        # They load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    _add_layers(app, gateway, connection, calls)
    # As its own, the busiest first: FastAPI looks twice for the route of a router that is included.
    for routes in (jobs, batches, events, images, status):
        app.router.routes.extend(routes.router.routes)
    openapi.describe(app)
    return app


def _gateway(settings: GatewaySettings, keyring: KeyCache) -> Gateway:
    looks, stopping = ProgressReader(), asyncio.Event()
    hubs = BatchBroadcaster(looks, stopping)
    client = AsyncClient(settings=settings)
    return Gateway(settings, client, keyring, Metrics(), looks, hubs, stopping)


def _add_layers(app: FastAPI, gateway: Gateway, connection: redis.Redis, calls: RedisCalls) -> None:
    """From the innermost to the outermost."""
    settings = gateway.settings
    add_handlers(app)
    app.add_middleware(BodyBounds, settings=settings)
    keys, per_minute = Keys(settings.key_prefix), settings.gateway_rate
    rates = RateLimiter(connection, keys, per_minute, calls)
    app.add_middleware(Access, keyring=gateway.keyring, rates=rates if per_minute else None)
    app.add_middleware(Problems)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=_CORS_METHODS,
            allow_headers=_CORS_SENT,
            expose_headers=_CORS_READ,
        )
    app.add_middleware(AnswerHeaders, metrics=gateway.metrics)


@asynccontextmanager
async def _webhooks(
    gateway: Gateway, connection: redis.Redis, api_keys: ApiKeys
) -> AsyncIterator[None]:
    """They are sent within the block."""
    settings = gateway.settings
    ledger = Ledger(connection, Keys(settings.key_prefix), blob_ttl_s=settings.blob_ttl_s)
    with Client(settings=settings) as client:
        sender = WebhookSender(
            ledger,
            WebhookClient(settings.webhook_guard(), connections=THREADS),
            WebhookBodies(client).read,
            api_keys.webhook_secrets,
            tries=settings.webhook_tries,
            count=lambda outcome: gateway.metrics.webhooks.labels(outcome).inc(),
        )
        sender.start()
        try:
            yield
        finally:
            await asyncio.to_thread(sender.stop)


def _version() -> str:
    try:
        return importlib.metadata.version("blipline")
    except importlib.metadata.PackageNotFoundError:
        # A checkout that is not installed.
        return "0"
