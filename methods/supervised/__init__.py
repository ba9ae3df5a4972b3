"""Top lines that learn from lesion labels: what unsupervised methods are measured against, never among them."""
