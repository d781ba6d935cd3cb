"""What the engine does on a GPU, against transformers and against the hardware."""
