"""The run folder: records, maps, lock."""
