"""Versions of what computes the numbers."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "uasbench",
    "torch",
    "timm",
    "monai",
    "numpy",
    "scipy",
    "numba",
    "pandas",
    "nibabel",
    "SimpleITK",
    "optuna",
    "mlflow",
)
OF_EXTRAS = ("nnunetv2",)


@cache
def versions() -> dict[str, str]:
    """Return the installed version of each package that matters, read without importing it.

    A package of an extra is named where it is installed.
    """
    found = {}
    for name in (*PACKAGES, *OF_EXTRAS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name not in OF_EXTRAS:
                found[name] = "not installed"
    return found
