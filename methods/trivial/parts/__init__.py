"""What the methods of this family are made of; no file here is a method."""
