"""Baselines without learning that every table carries."""
