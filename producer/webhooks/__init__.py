"""Delivery of webhooks: payload, signature, retries and quotas."""
