"""Connections to Redis: URLs, pools, Sentinel and forks."""
