"""The exception that ends one item with an error of the contract."""

from __future__ import annotations

from producer import contract
from producer.contract import ErrorCode, ItemResult


class ItemRejected(Exception):
    """The rejection of an item, its image or its options; the message is for the client."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def result(self) -> ItemResult:
        """The result of the item."""
        return contract.failure(self.code, str(self))
