"""Model families that implement the protocols of `worker.engine.model`."""
