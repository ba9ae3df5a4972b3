"""The run folder: what is in it, and what can be done with a finished one."""
