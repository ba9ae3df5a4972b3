"""What `bench check` asks of a method, and what an executor must keep."""
