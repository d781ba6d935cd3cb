"""Fixtures of the webhook tests: a ledger, ended jobs and senders."""

from tests.webhooks.sending import end_job, ledger, outcomes, start_sender

__all__ = ["end_job", "ledger", "outcomes", "start_sender"]
