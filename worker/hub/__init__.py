"""Checkpoints of the Hugging Face hub and of ModelScope: one directory for each model setting."""
