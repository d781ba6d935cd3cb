"""The engine on a GPU, against transformers and against the hardware's limits."""
