"""Benchmarks. Each compares in one run, on one machine, and checks the answers that it times."""
