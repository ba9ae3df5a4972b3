"""One file per data set, and the bases that several share."""
