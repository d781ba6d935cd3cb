"""HTTP requests to hosts that users name, with an SSRF guard. No imports, as httpx is an extra."""
