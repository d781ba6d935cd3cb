"""Logs without secrets, and traces."""
