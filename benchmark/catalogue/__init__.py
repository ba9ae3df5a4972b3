"""What can run, by name: methods, top lines, data sets, executors; listed and shown."""
