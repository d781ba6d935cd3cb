"""The exporter: an HTTP server of the job store's metrics alone."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, start_http_server

from ..client.probe_client import ProbeClient
from ..errors import InvalidInput
from ..settings import ClientSettings
from .ledger_metrics import LedgerCollector


class Exporter:
    """The server of one deployment's metrics; each scrape reads Redis once."""

    def __init__(self, settings: ClientSettings) -> None:
        self._client = ProbeClient(settings=settings)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(LedgerCollector(self._client.statistics, settings))

    def start(self, host: str, port: int) -> str:
        """Serve in threads; return the URL. Raises InvalidInput if the address is not available."""
        try:
            server, _ = start_http_server(port, host, self._registry)
        except OSError as error:
            raise InvalidInput(f"cannot listen on {host}:{port}: {error.strerror}") from None
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{server.server_port}/metrics"

    def close(self) -> None:
        """Close the connections to Redis."""
        self._client.close()
