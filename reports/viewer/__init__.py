"""The slice viewer beside the report: maps, scans and truth as scripts that a page loads from disk."""
