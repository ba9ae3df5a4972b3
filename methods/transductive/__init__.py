"""Methods that also learn from the unlabelled test cases."""
