"""Routes of webhooks: delivery logs, pings and bodies."""
