"""What computes the numbers: versions, the machine and the commit."""

import hashlib
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..common import package
from .instructions import instruction_set

PACKAGES = "uasbench torch timm monai numpy scipy numba pandas nibabel SimpleITK optuna mlflow"
OF_EXTRAS = "nnunetv2"
ROOMS = ("common", "datasets", "methods", "benchmark", "reports", "experiments")


@cache
def versions() -> dict[str, str]:
    """Return the installed version of each package that matters, read without importing it.

    A package of an extra is named where it is installed.
    """
    found = {}
    for name in f"{PACKAGES} {OF_EXTRAS}".split():
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
        "instruction_set": instruction_set(),
    }


def commit() -> str | None:
    """Return the commit of the source tree that runs, or None where it is not a git checkout."""
    if not (package.ROOT / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(package.ROOT), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip() or None  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None


def source_digest() -> str:
    """Return a digest of the package's own files as they are, whether or not they are a commit of it."""
    files = [*package.ROOT.glob("*.py")]
    files += [path for room in ROOMS for kind in ("*.py", "*.yaml") for path in (package.ROOT / room).rglob(kind)]
    digest = hashlib.blake2b(digest_size=10)
    for path in sorted(files):
        digest.update(f"{path.relative_to(package.ROOT).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()
