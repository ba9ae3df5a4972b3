"""The ground floor: errors, atomic files, seeds, processes, kernels, digests, source hashes, boxes."""
