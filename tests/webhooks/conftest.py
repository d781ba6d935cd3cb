"""Fixtures of the webhook tests: an outbox, ended jobs and senders."""

from tests.webhooks.senders import end_job, outbox, outcomes, start_sender

__all__ = ["end_job", "outbox", "outcomes", "start_sender"]
