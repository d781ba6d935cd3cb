"""HTTP to hosts that callers name. Imports nothing: httpx is an extra."""
