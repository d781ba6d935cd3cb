"""Checkpoints of the Hugging Face hub: one local directory for each model setting."""
