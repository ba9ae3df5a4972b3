"""Generators of pseudo anomalies."""
