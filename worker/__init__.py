"""Consumers, and the engine that they feed."""
