"""How a method looks at a case, and the way back to its grid."""
