"""HTTP to hosts that users name, guarded against SSRF. Imports nothing: httpx is an extra."""
