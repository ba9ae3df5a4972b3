"""Methods that diffuse a slice and denoise it again."""
