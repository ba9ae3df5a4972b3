"""What computes the numbers: versions, the machine, the commit, and the memory that this process took."""

import platform
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..common import package

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


def environment() -> dict[str, Any]:
    """Return what is recorded beside a result and never hashed: versions and the machine."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "versions": versions(),
        "byteorder": sys.byteorder,
    }


def commit() -> str | None:
    """Return the commit of the source tree that runs, or None where it is not a git checkout."""
    if not (package.ROOT / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(package.ROOT), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def peak_ram_mib() -> float:
    """Return the peak resident memory of this process in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
