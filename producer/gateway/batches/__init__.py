"""Routes of batches: upload, results, events."""
