"""Peak memory of this process."""

from __future__ import annotations

import resource


def peak_ram_mib() -> float:
    """Return the peak resident memory of this process in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
