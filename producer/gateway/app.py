"""Application factory: builds the FastAPI app with its middleware, routes and webhook sender."""

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
from ..connection.outage import Outage
from ..connection.url import redact_password
from ..ledger.keys import Keys
from ..ledger.outbox import WebhookOutbox
from ..webhooks.receiver import WebhookClient
from ..webhooks.sender import THREADS, WebhookSender
from . import status
from .access.api_keys import ApiKeys
from .access.auth import AuthMiddleware
from .access.body_quota import BodyQuotaMiddleware
from .access.concurrency import ConcurrencyLimiter
from .access.daily_quotas import DailyQuotas
from .access.key_cache import KeyCache
from .access.rate_limit import RateLimiter
from .access.tenants import tenant_of
from .batches import batches, events, token_routes
from .batches.broadcast import BatchBroadcaster, ProgressReader
from .http.metrics import Metrics
from .http.middleware import BodyLimitMiddleware, HeadersMiddleware
from .http.problems import ProblemMiddleware, add_exception_handlers
from .http.redis_calls import RedisCalls
from .http.slash_redirect import SlashRedirect
from .images import images
from .jobs import jobs, lists, task_routes, text_events
from .jobs.listing import JobListing
from .openapi import docs_page, openapi
from .settings import GatewaySettings
from .state import Gateway
from .webhooks import webhook_routes
from .webhooks.webhook_body import WebhookBodies
from .webhooks.webhook_guard import WebhookGuard
from .webhooks.webhook_pings import WebhookPings

#: CORS: methods, request headers and response headers that scripts of allowed origins may use.
_CORS_METHODS: Final = ("GET", "POST", "PUT", "DELETE")
_CORS_REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "Prefer",
    "X-Request-Id",
)
_CORS_RESPONSE_HEADERS: Final = (
    "Blipline-Status",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-Id",
)


def create_app(settings: GatewaySettings) -> FastAPI:
    """Build the gateway to one Redis, without the page; it connects at the first request."""
    outage = Outage(redact_password(settings.redis_url), settings.redis_wait_s)
    connection = connect(
        settings.redis_url, outage=outage, max_connections=settings.max_connections
    )
    api_keys = ApiKeys(connection, Keys(settings.key_prefix))
    threads = ThreadPools()
    calls = RedisCalls(threads, settings.redis_url)
    limiter = RateLimiter(connection, Keys(settings.key_prefix), settings.gateway_rate, calls)
    gateway = _create_state(settings, KeyCache(api_keys, calls), limiter, connection, calls)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            async with _webhook_sender(gateway, connection, api_keys):
                yield
        finally:
            gateway.webhook_pings.close()
            await gateway.client.close()
            outage.stop()
            await threads.close(then=connection.close)

    app = FastAPI(
        title="Blipline",
        summary="Captions, answers, matches and embeddings of images",
        version=_version(),
        lifespan=lifespan,
        # FastAPI's documentation pages load scripts from other hosts; see docs_page.
        docs_url=None,
        redoc_url=None,
        # Starlette's redirects trust `Host`.
        redirect_slashes=False,
        # Its spans contain queries, and with them tokens; HeadersMiddleware traces requests.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.gateway = gateway
    _add_middleware(app, gateway)
    # Routes are added to the app itself, the busiest first: FastAPI matches those of included
    # routers twice.
    event_routes = (events, text_events, token_routes)
    batch_routes = (batches, lists, webhook_routes)
    for module in (jobs, task_routes, *batch_routes, *event_routes, images, status, docs_page):
        app.router.routes.extend(module.router.routes)
    app.router.default = SlashRedirect(app.router)
    openapi.complete_openapi(app, task_routes.describe)
    return app


def _create_state(
    settings: GatewaySettings,
    key_cache: KeyCache,
    rate_limiter: RateLimiter,
    connection: redis.Redis,
    calls: RedisCalls,
) -> Gateway:
    progress_reader, stopping = ProgressReader(), asyncio.Event()
    broadcaster = BatchBroadcaster(progress_reader, stopping)
    client = AsyncClient(settings=settings)
    guard = WebhookGuard(settings.webhook_address_policy())
    return Gateway(
        settings=settings,
        rate_limiter=rate_limiter,
        daily_quotas=DailyQuotas(connection, Keys(settings.key_prefix), settings.redis_url),
        concurrency=ConcurrencyLimiter(settings.gateway_max_concurrent),
        client=client,
        listing=JobListing(connection, Keys(settings.key_prefix)),
        connection=connection,
        redis_calls=calls,
        key_cache=key_cache,
        metrics=Metrics(),
        progress_reader=progress_reader,
        broadcaster=broadcaster,
        stopping=stopping,
        webhook_guard=guard,
        webhook_pings=WebhookPings.create(settings, connection),
    )


def _add_middleware(app: FastAPI, gateway: Gateway) -> None:
    """Add the middleware, from the innermost to the outermost."""
    settings = gateway.settings
    add_exception_handlers(app)
    app.add_middleware(BodyLimitMiddleware, settings=settings)
    app.add_middleware(BodyQuotaMiddleware, quotas=gateway.daily_quotas, calls=gateway.redis_calls)
    app.add_middleware(
        AuthMiddleware,
        key_cache=gateway.key_cache,
        rate_limiter=gateway.rate_limiter,
        concurrency=gateway.concurrency,
    )
    app.add_middleware(ProblemMiddleware)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=_CORS_METHODS,
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_RESPONSE_HEADERS,
        )
    app.add_middleware(HeadersMiddleware, metrics=gateway.metrics)


@asynccontextmanager
async def _webhook_sender(
    gateway: Gateway, connection: redis.Redis, api_keys: ApiKeys
) -> AsyncIterator[None]:
    """Run the webhook sender within the block."""
    settings = gateway.settings
    with Client(settings=settings) as client:
        sender = WebhookSender(
            WebhookOutbox(connection, Keys(settings.key_prefix)),
            WebhookClient(settings.webhook_address_policy(), connections=THREADS),
            WebhookBodies(client).read,
            api_keys.webhook_secrets,
            lambda event: tenant_of(event.id, event.kind),
            max_attempts=settings.webhook_tries,
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
