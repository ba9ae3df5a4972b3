"""What a stage does, inside the process that runs it."""
