"""Results of jobs and batches, as clients read them."""
