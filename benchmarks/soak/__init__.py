"""A soak test of the engine: many thousand mixed rows, none lost, no memory leaked."""
