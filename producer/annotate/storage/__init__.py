"""The journal of an output."""
