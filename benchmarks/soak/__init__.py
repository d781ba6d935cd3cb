"""Many thousand mixed rows, to see that nothing is lost or kept."""
