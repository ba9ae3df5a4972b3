"""Where the threshold of a number comes from."""
