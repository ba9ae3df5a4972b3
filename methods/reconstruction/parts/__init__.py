"""What the methods of this family share; no file here is a method."""
