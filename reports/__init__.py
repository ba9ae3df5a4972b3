"""Records in, tables, figures and HTML out."""
