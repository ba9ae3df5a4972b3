"""Versions of what computes the numbers."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("uasbench", "torch", "monai", "numpy", "scipy", "numba", "pandas", "nibabel", "optuna", "mlflow")


@cache
def versions() -> dict[str, str]:
    """Return the installed version of each package that matters, read without importing it."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
