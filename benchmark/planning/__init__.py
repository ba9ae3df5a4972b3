"""From the options of a run to its graph of stages."""
