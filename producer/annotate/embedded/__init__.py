"""A Redis and a worker for the time of a command."""
