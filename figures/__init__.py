"""Numbers in, a matplotlib Figure out; knows nothing of runs."""
