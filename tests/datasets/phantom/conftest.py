"""Phantoms of the smallest size, made once per session."""

import hashlib
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from uasbench.datasets.phantom.disk import write_phantom
from uasbench.datasets.phantom.liver import patients
from uasbench.datasets.phantom.lung import patients as chests
from uasbench.datasets.phantom.lung_patient import ChestPatient


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    """The smoke phantoms of seed 3 by anatomy."""
    folder = tmp_path_factory.mktemp("phantom")
    for anatomy in ("liver", "lung"):
        write_phantom(folder / anatomy, anatomy=anatomy, seed=3, size="smoke")
    return {anatomy: folder / anatomy for anatomy in ("liver", "lung")}


@pytest.fixture(scope="session")
def smoke_root(roots):
    return roots["liver"]


@pytest.fixture(scope="session")
def lung_root(roots):
    return roots["lung"]


@pytest.fixture(scope="session")
def digests():
    """The hash of every file below a folder."""

    def of(root):
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return of


@pytest.fixture(scope="session")
def as_lps():
    """The voxels of a NIfTI file, (z, y, x) in LPS, by nibabel."""

    def read(path):
        image = nib.as_closest_canonical(nib.load(path))
        return np.asarray(image.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]

    return read


@pytest.fixture(scope="session")
def smoke_patients():
    """The patients of seed 3 in memory, by set."""
    sets: dict[str, list[Any]] = {"btcv": [], "lits": []}
    for dataset, _, patient in patients(seed=3, size="smoke"):
        sets[dataset].append(patient)
    return sets


@pytest.fixture(scope="session")
def smoke_chests():
    """The chests of seed 3 in memory, by set and case."""
    sets: dict[str, dict[str, ChestPatient]] = {"luna16": {}, "coronacases": {}}
    for dataset, case, patient in chests(seed=3, size="smoke"):
        sets[dataset][case] = patient
    return sets
