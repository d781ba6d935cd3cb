"""Why something has no answer: the one exception that items, images and options end with."""

from __future__ import annotations

from typing import Any

from producer import contract
from producer.contract import ErrorCode

#: One item's entry in the result of its chunk.
Result = dict[str, Any]


class ItemRejected(Exception):
    """What was asked cannot be done; `code` is one of the contract's, the message for the user."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def result(self) -> Result:
        """What the item ends with."""
        return contract.failure(self.code, str(self))
