"""Maps and truth in, numbers out."""
