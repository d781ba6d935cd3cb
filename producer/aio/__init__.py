"""The asynchronous client."""

from .client import AsyncClient
from .handles import AsyncBatch, AsyncJob

__all__ = ["AsyncBatch", "AsyncClient", "AsyncJob"]
