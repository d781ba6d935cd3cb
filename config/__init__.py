"""Settings and configuration of the processes that run on a worker machine."""
