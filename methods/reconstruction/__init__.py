"""Methods that score a reconstruction residual."""
