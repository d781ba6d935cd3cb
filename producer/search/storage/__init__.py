"""The stored index: a database of entries and vectors, and graphs of nearest neighbours."""
