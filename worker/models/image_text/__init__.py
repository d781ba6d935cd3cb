"""Models that transformers' AutoModelForImageTextToText loads, for the engine's grouped lane."""
