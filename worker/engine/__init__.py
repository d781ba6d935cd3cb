"""In-flight batching on one accelerator: finished rows leave and waiting rows join at every step.

`request` (what goes in and comes out) and `scheduler` import no torch, so that consumer processes
may import them. `loop.Engine` is the place to start reading.
"""
