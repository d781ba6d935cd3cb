"""In-flight (continuous) batching on one accelerator: rows join and leave the batch at every step.

Entry point: `engine.Engine.step`. Consumer processes import `client`, `protocol` and `request`,
which do not import torch; neither does `scheduler`.
"""
