"""Celery's settings for a consumer. docs/decisions.md has the story of each."""

from __future__ import annotations

from typing import Any

from producer import contract
from producer.connection import BROKER_TRANSPORT_OPTIONS, SOCKET_OPTIONS


def celery_settings(redis_url: str) -> dict[str, Any]:
    """Settings for `app.conf.update`."""
    return {
        "broker_url": redis_url,
        # Stores a result and closes its ledger row in one step.
        "result_backend": f"worker.backend:LedgerBackend+{redis_url}",
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
        # A Sentinel failover answers READONLY, a channel error that would end the consumer.
        "broker_channel_error_retry": True,
        # NotImplementedError with threads kills the consumer; results are idempotent instead.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_transport_options": BROKER_TRANSPORT_OPTIONS,
        "redis_socket_timeout": SOCKET_OPTIONS["socket_timeout"],
        "redis_socket_connect_timeout": SOCKET_OPTIONS["socket_connect_timeout"],
        "redis_socket_keepalive": SOCKET_OPTIONS["socket_keepalive"],
        "redis_backend_health_check_interval": SOCKET_OPTIONS["health_check_interval"],
        # What Flower and other monitors see.
        "worker_send_task_events": True,
        # The started event already shows in Flower; a stored state costs two round trips more.
        "task_track_started": False,
        "task_default_queue": contract.Queue.INTERACTIVE.value,
        "timezone": "UTC",
        "enable_utc": True,
    }
