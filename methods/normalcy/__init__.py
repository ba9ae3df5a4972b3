"""Methods that learn where bright voxels are normal."""
