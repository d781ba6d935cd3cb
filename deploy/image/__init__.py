"""Build of the container image, and a run of the whole system from it."""
