"""Phantoms of the smallest size, made once per session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from uasbench.datasets.phantom.liver import patients, write_liver_phantom
from uasbench.datasets.phantom.patient import Patient


@pytest.fixture(scope="session")
def smoke_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke phantom of seed 3 on disk."""
    root = tmp_path_factory.mktemp("phantom") / "smoke"
    write_liver_phantom(root, seed=3, size="smoke")
    return root


@pytest.fixture(scope="session")
def smoke_patients() -> dict[str, list[Patient]]:
    """The patients of seed 3 in memory, by set."""
    sets: dict[str, list[Any]] = {"btcv": [], "lits": []}
    for dataset, _, patient in patients(seed=3, size="smoke"):
        sets[dataset].append(patient)
    return sets
