"""Routes of single jobs and of lists of jobs."""
