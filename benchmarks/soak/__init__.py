"""A soak test of the engine: many thousand mixed rows, without lost rows or memory leaks."""
