"""Prometheus metrics of the job store, served by the gateway and by `blipline exporter`."""
