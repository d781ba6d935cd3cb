"""Celery's settings for a consumer. docs/decisions.md has the story of each."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from config.settings import WorkerSettings
from producer import contract
from producer.connection.connect import SOCKET_OPTIONS, sentinel_options
from producer.connection.url import Address


def celery_settings(settings: WorkerSettings) -> dict[str, Any]:
    """Settings for `app.conf.update`."""
    address = Address.parse(settings.redis_url)
    return {
        "broker_url": _broker_url(address),
        # kombu takes nothing about TLS from the scheme.
        "broker_use_ssl": address.tls,
        "broker_transport_options": _transport_options(settings, address),
        # Stores a result and closes its ledger row in one step.
        "result_backend": "worker.consumer.backend:LedgerBackend",
        # All of what the backend needs to connect by itself. Celery shows its settings to
        # monitors, and hides those that have "pass" in their name.
        "blipline_redis_url_with_password": settings.redis_url,
        "result_backend_transport_options": {"global_keyprefix": settings.key_prefix},
        # One backend with one pool of connections, not one for each thread.
        "result_backend_thread_safe": True,
        "blipline_blob_ttl_s": settings.blob_ttl_s,
        "result_expires": contract.RESULT_TTL_S,
        # Only JSON, in and out: a pickle from the queue could run code.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        # Acknowledged after the result is stored, so a crash loses nothing. Failures too:
        # a retry is ours to decide, never the broker's.
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": True,
        # Without it a result that could not be written is swallowed, and with it the
        # acknowledgement and the prefetch slot: the consumer falls silent.
        "result_backend_always_retry": True,
        # Nothing waits inside a consumer's executor: what is fetched is being worked on.
        "worker_prefetch_multiplier": 1,
        # A consumer outlives any outage of Redis, at its start too.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A failover answers READONLY, a channel error that would end the consumer.
        "broker_channel_error_retry": True,
        # NotImplementedError with threads kills the consumer; results are idempotent instead.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # What Flower and other monitors see.
        "worker_send_task_events": True,
        # The started event already shows in Flower; a stored state costs two round trips more.
        "task_track_started": False,
        "task_default_queue": contract.Queue.INTERACTIVE.value,
        "timezone": "UTC",
        "enable_utc": True,
    }


def _broker_url(address: Address) -> str:
    """The same Redis in kombu's words; several sentinels with semicolons."""
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
        # A delivered, unacknowledged message goes back to its queue after this time: the last
        # resort for one whose consumer died before the ledger knew of it, since all other work
        # is given to somebody else after one lease. Longer than a chunk should take: each time, the
        # message of one that still runs is delivered again, dropped, and its slot in the prefetch
        # window freed too early. The shortest in any app that shares the Redis wins.
        "visibility_timeout": settings.visibility_timeout_s,
        # By default the restore scan runs only about every 100 s.
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 30,
        "global_keyprefix": settings.key_prefix,
    }
    if address.master is not None:
        options["master_name"] = address.master
        options["sentinel_kwargs"] = sentinel_options(address)
    return options
