"""Regions of interest for sets that come without an organ mask."""
