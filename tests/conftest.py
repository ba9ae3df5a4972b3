"""Fixtures shared by every folder of tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # tests share the cores; set before torch and NumPy start their threads

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository root, which is the package."""
    return ROOT


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The development pack of real CT; tests that need it skip where it is absent."""
    path = Path(os.environ.get("UASBENCH_REAL_CT", ROOT.parent / "shared" / "data" / "real-ct"))
    if not path.is_dir():
        pytest.skip(f"real CT pack not found at {path}; set UASBENCH_REAL_CT to its folder")
    return path
