"""Decoded scans and views, kept on disk under content addresses."""
