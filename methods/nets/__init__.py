"""Network trunks shared by methods."""
