"""Fixtures of the models' tests: a tiny BLIP-2 with OPT."""

from tests.opt_checkpoint import checkpoint, model, one_thread

__all__ = ["checkpoint", "model", "one_thread"]
