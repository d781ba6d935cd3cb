"""Errors of loading a model and of building a prompt."""

from __future__ import annotations


class LoadError(Exception):
    """The model cannot serve. The message is one sentence with a remedy, fit to be shown alone."""


class PromptTooLong(ValueError):
    """A text has more tokens than the model reads; the message says how many of each."""
