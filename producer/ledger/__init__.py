"""Job store in Redis."""

from .ledger import Ledger

__all__ = ["Ledger"]
