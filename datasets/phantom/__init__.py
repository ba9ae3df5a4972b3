"""Procedural CT written in the layouts of the real data sets."""
