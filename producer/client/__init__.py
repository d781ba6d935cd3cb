"""The client of one Redis: it submits jobs and batches, and reads dead letters."""

from __future__ import annotations

from .client import Client as Client
