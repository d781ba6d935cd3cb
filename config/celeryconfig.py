"""Celery's settings for a consumer; docs/decisions.md gives the reason for each."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from kombu.entity import Exchange, Queue

from config.settings import WorkerSettings
from producer import contract
from producer.connection.connect import SOCKET_OPTIONS, sentinel_options
from producer.connection.url import Address


def celery_settings(settings: WorkerSettings) -> dict[str, Any]:
    """Return the settings for `app.conf.update`."""
    address = Address.parse(settings.redis_url)
    return {
        "broker_url": _broker_url(address),
        # kombu ignores the scheme's TLS.
        "broker_use_ssl": address.tls,
        "broker_transport_options": _transport_options(settings, address),
        # A malformed message or a full Redis must not end the consumer, and an unknown task belongs
        # to another program.
        "worker_consumer": "worker.consumer.celery_consumer:ResilientConsumer",
        # The pool of a consumer that is started without `-P`; no other pool works.
        "worker_pool": "threads",
        # The backend stores a result and closes its job record atomically.
        "result_backend": "worker.consumer.backend:LedgerBackend",
        # The backend's connection. Celery shows its settings to monitors, except those whose name
        # contains "pass".
        "blipline_redis_url_with_password": settings.redis_url,
        "result_backend_transport_options": {"global_keyprefix": settings.key_prefix},
        # All threads share one backend and its connection pool.
        "result_backend_thread_safe": True,
        "blipline_blob_ttl_s": settings.blob_ttl_s,
        "result_expires": contract.RESULT_TTL_S,
        # JSON only, in both directions: a pickle from the queue could run code.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        # Messages are acknowledged after the result is stored, so that a crash loses nothing.
        # Failures are acknowledged too: the ledger decides on retries, never the broker.
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": True,
        # Without retries, a result that cannot be written is lost together with the acknowledgement
        # and the prefetch slot, and the consumer stops taking work.
        "result_backend_always_retry": True,
        # A consumer reserves only as many messages as it processes concurrently.
        "worker_prefetch_multiplier": 1,
        # A consumer waits out any outage of Redis, also at its start.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # During a failover Redis answers READONLY, a channel error that would end the consumer.
        "broker_channel_error_retry": True,
        # With threads this option raises NotImplementedError and ends the consumer; it is not
        # needed, since results are idempotent.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Flower and other monitors read these events.
        "worker_send_task_events": True,
        # Flower already shows the started event; a stored state costs two more round trips.
        "task_track_started": False,
        # A consumer without -Q consumes these two.
        "task_queues": [_queue(name.value) for name in contract.Queue],
        # A consumer publishes the callbacks of messages itself (`link`, `chain`, `chord`). They
        # belong to the program that sent the message, except those that are tasks of Blipline.
        "task_default_queue": settings.default_queue,
        "task_routes": {"blipline.*": {"queue": contract.Queue.INTERACTIVE.value}},
        "timezone": "UTC",
        "enable_utc": True,
    }


def _queue(name: str) -> Queue:
    exchange = Exchange(name)  # type: ignore[no-untyped-call]
    return Queue(name, exchange, routing_key=name)  # type: ignore[no-untyped-call]


def _broker_url(address: Address) -> str:
    """Return the Redis URL in kombu's form, which separates sentinels by semicolons."""
    scheme = "rediss" if address.tls is not None else "redis"
    if address.master is not None:
        scheme = "sentinel"
    login = ""
    if address.username or address.password:
        login = f"{quote(address.username or '', '')}:{quote(address.password or '', '')}@"
    return ";".join(
        f"{scheme}://{login}{f'[{host}]' if ':' in host else host}:{port}/{address.database}"
        for host, port in address.hosts
    )


def _transport_options(settings: WorkerSettings, address: Address) -> dict[str, Any]:
    options: dict[str, Any] = {
        **SOCKET_OPTIONS,
        # A delivered, unacknowledged message returns to its queue after this time. That is the last
        # resort for a message whose consumer died before it claimed the job; the sweep redelivers
        # all other jobs after one lease. The timeout must exceed the time of a chunk: otherwise the
        # message of a running chunk is redelivered and dropped, which frees its prefetch slot too
        # early. The shortest value of all apps that share the Redis applies.
        "visibility_timeout": settings.visibility_timeout_s,
        # By default, kombu searches for expired messages only about every 100 s.
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 30,
        "global_keyprefix": settings.key_prefix,
    }
    if address.master is not None:
        options["master_name"] = address.master
        options["sentinel_kwargs"] = sentinel_options(address)
    return options
