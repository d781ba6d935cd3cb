"""HTTP itself: the protocol, middleware, problems, logs, and small parts of other modules."""
