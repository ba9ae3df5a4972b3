"""Imported once by the fork server, so that each worker starts with the slow imports done.

Nothing here may start a thread pool or touch CUDA: workers are forks of this state.
"""

from __future__ import annotations

import contextlib
import importlib

for _name in ("numpy", "scipy.ndimage", "torch", "numba", "nibabel", "optuna", f"{__package__}.worker"):
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)
