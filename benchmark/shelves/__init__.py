"""Records of runs with many cells, in columns."""
