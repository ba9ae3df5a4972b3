"""Programs that look for the reason of a result; no method of the benchmark learns from a lesion."""
