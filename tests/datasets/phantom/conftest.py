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
def smoke_root(tmp_path_factory):
    """The smoke phantom of seed 3 on disk."""
    root = tmp_path_factory.mktemp("phantom") / "smoke"
    write_phantom(root, anatomy="liver", seed=3, size="smoke")
    return root


@pytest.fixture(scope="session")
def roots(smoke_root, lung_root):
    """The smoke phantoms of seed 3 by anatomy."""
    return {"liver": smoke_root, "lung": lung_root}


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
def lung_root(tmp_path_factory):
    """The smoke phantom of the lung of seed 3 on disk."""
    root = tmp_path_factory.mktemp("phantom") / "lung"
    write_phantom(root, anatomy="lung", seed=3, size="smoke")
    return root


@pytest.fixture(scope="session")
def smoke_chests():
    """The chests of seed 3 in memory, by set and case."""
    sets: dict[str, dict[str, ChestPatient]] = {"luna16": {}, "coronacases": {}}
    for dataset, case, patient in chests(seed=3, size="smoke"):
        sets[dataset][case] = patient
    return sets


@pytest.fixture(scope="session")
def oracle_dice():
    """Mean over patients of their Dice at the one threshold that is best for that mean."""

    def best(scores, truths):
        edges = np.append(np.unique(np.quantile(np.concatenate(scores), np.linspace(0, 1, 2001))), np.inf)
        dice = []
        for score, truth in zip(scores, truths, strict=True):
            hit = np.histogram(score[truth], edges)[0][::-1].cumsum()[::-1]
            miss = np.histogram(score[~truth], edges)[0][::-1].cumsum()[::-1]
            dice.append(2 * hit / (hit + miss + truth.sum()))
        return float(np.mean(dice, axis=0).max())

    return best
