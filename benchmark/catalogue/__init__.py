"""What can run: methods, top lines and data sets by name, listed and shown."""
