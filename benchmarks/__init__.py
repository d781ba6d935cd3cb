"""Benchmarks. Each compares alternatives in one run on one machine and checks all answers."""
