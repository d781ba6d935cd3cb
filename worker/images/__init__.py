"""Images: fetch, inspect, decode and resize within memory limits."""
