"""Model families behind the protocols of `worker.engine.model`."""
