"""Access: API keys, their limits and rates, and the tenants that they stand for."""
