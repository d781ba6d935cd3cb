"""The asynchronous client."""

from .client import AsyncBatch, AsyncClient, AsyncJob

__all__ = ["AsyncBatch", "AsyncClient", "AsyncJob"]
