"""Fields of requests, queries and responses."""
