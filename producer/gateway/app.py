"""The application: its parts, its layers and its routes."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import redis
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from ..aio import AsyncClient
from ..api_keys import ApiKeys
from ..connection import connect
from ..keys import Keys
from ..ledger import Ledger
from ..threads import Threads
from . import batches, events, health, images, jobs, methods, openapi, queues
from .access import Access
from .bounds import Bounds
from .ends import Ends
from .headers import Answers
from .keyring import Keyring
from .metrics import Metrics
from .parts import Gateway
from .problems import Problems, add_handlers
from .rates import Rates
from .receivers import Receivers
from .sender import THREADS, Sender
from .settings import GatewaySettings

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
    """A gateway to one Redis; it connects at the first request."""
    connection = connect(settings.redis_url)
    api_keys = ApiKeys(connection, Keys(settings.key_prefix))
    threads = Threads()
    keyring = Keyring(api_keys, threads, settings.redis_url)
    gateway = Gateway(settings, AsyncClient(settings=settings), api_keys, keyring, Metrics())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sender = _sender(gateway, connection)
        sender.start()
        try:
            yield
        finally:
            await asyncio.to_thread(sender.stop)
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
    _add_layers(app, gateway, connection, threads)
    # As its own, the busiest first: FastAPI looks twice for the route of a router that is included.
    for routes in (jobs, batches, events, images, queues, health):
        app.router.routes.extend(routes.router.routes)
    openapi.describe(app)
    methods.tell_allowed(app)
    if settings.page and importlib.util.find_spec("gradio") is not None:
        from ..page import mount

        mount(app, gateway)
    return app


def _add_layers(app: FastAPI, gateway: Gateway, connection: redis.Redis, threads: Threads) -> None:
    """From the innermost to the outermost."""
    settings = gateway.settings
    add_handlers(app)
    app.add_middleware(Bounds, settings=settings)
    keys, per_minute = Keys(settings.key_prefix), settings.gateway_rate
    rates = Rates(connection, keys, per_minute, threads, settings.redis_url)
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
    app.add_middleware(Answers, metrics=gateway.metrics)


def _sender(gateway: Gateway, connection: redis.Redis) -> Sender:
    settings = gateway.settings
    ledger = Ledger(connection, Keys(settings.key_prefix), blob_ttl_s=settings.blob_ttl_s)
    return Sender(
        ledger,
        Receivers(settings.webhook_guard(), connections=THREADS),
        Ends(connection, ledger, settings.redis_url).read,
        gateway.keys.webhook_secrets,
        tries=settings.webhook_tries,
        count=lambda outcome: gateway.metrics.webhooks.labels(outcome).inc(),
    )


def _version() -> str:
    try:
        return importlib.metadata.version("blipline")
    except importlib.metadata.PackageNotFoundError:
        # A checkout that is not installed.
        return "0"
