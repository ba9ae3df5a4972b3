"""Is a run what its files say: files, certificate, data and numbers looked at again, and two runs side by side."""
