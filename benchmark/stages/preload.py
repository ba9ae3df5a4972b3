"""Imported once by the process that workers are forked from, so that each worker starts with the slow imports done.

Nothing here may start a thread pool or touch CUDA: workers are forks of this state.
"""

import contextlib
import importlib
import os

from .worker import THREADS

for _name in THREADS:
    os.environ[_name] = "1"  # no thread pool before the fork; a stage sets its own thread count
_SLOW = ("numpy", "scipy.ndimage", "torch", "torch._dynamo", "numba", "nibabel", "optuna")
for _name in _SLOW:
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)
with contextlib.suppress(ImportError):  # numba fills its registries at the first compilation: most of a second
    importlib.import_module("numba").njit(lambda: None)()
