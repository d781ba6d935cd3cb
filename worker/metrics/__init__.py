"""Metrics that several processes of a worker share."""
