"""Healthy scans with synthetic lesions and their truth: for choosing settings without a lesion label."""
