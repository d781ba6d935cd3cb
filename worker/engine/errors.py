"""Errors of loading a model and of building a prompt."""

from __future__ import annotations


class LoadError(Exception):
    """A model that cannot serve. The message is one sentence with a remedy, shown as it is."""


class PromptTooLong(ValueError):
    """A text with more tokens than the model reads. The message names both numbers."""
