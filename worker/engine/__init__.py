"""In-flight batching on one accelerator: rows are admitted to and leave the batch at every step.

Entry: `engine.Engine.step`. Consumer processes import `client`, `protocol` and `request`, which do
not import torch; neither does `scheduler`.
"""
