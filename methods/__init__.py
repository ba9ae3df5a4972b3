"""What learns from healthy scans: one file per method."""
