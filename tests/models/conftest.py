"""Fixtures of the models' tests: a tiny BLIP-2 with OPT, and checkpoints of all families."""

from tests.models.checkpoints import save_once
from tests.opt_checkpoint import checkpoint, model, one_thread, quiet_transformers

__all__ = ["checkpoint", "model", "one_thread", "quiet_transformers", "save_once"]
