"""Errors of loading a model and of building a prompt."""

from __future__ import annotations


class LoadError(Exception):
    """A model that cannot be served. The message is one sentence with a remedy for the operator."""


class HubUnavailable(LoadError):
    """A model that cannot be downloaded now; a later attempt may succeed."""


class PromptTooLong(ValueError):
    """A text with more tokens than the model's limit. The message contains both numbers."""


class InputRefused(ValueError):
    """An image or text that a model's own processor does not accept."""
