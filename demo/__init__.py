"""The demo: a drawn world, and a tiny BLIP-2 trained on it.

`scenes` needs only Pillow and numpy, so tests, benchmarks and samples may draw
the world without torch; `train` and `evaluate` need torch and transformers.
"""
