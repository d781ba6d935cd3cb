"""Search in collections: an index of the embeddings of images and texts."""
