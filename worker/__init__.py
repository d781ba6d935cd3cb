"""Consumers, and the engine that processes their rows."""
