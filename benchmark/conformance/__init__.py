"""What `bench check` asks of a method."""
