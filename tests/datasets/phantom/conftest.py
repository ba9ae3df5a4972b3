"""Phantoms of the smallest size, made once per session."""

import hashlib

import nibabel as nib
import numpy as np
import pytest
from uasbench.datasets.phantom import kidney, liver, lung, pancreas
from uasbench.datasets.phantom.disk import write_phantom

ANATOMIES = ("liver", "lung", "kidney", "pancreas")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The smoke phantoms of seed 3: their folders by anatomy, and their patients in memory by set and case."""
    folder, sets = tmp_path_factory.mktemp("phantom"), {}

    def kept(patients):
        def yielded(**options):
            for dataset, case, patient in patients(**options):
                sets.setdefault(dataset, {})[case] = patient
                yield dataset, case, patient

        return yielded

    with pytest.MonkeyPatch.context() as patch:
        for module in (liver, lung, kidney, pancreas):
            patch.setattr(module, "patients", kept(module.patients))
        for anatomy in ANATOMIES:
            write_phantom(folder / anatomy, anatomy=anatomy, seed=3, size="smoke")
    return {anatomy: folder / anatomy for anatomy in ANATOMIES}, sets


@pytest.fixture(scope="session")
def roots(made):
    return made[0]


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
def smoke_patients(made):
    """The patients of seed 3 in memory, by set."""
    return {dataset: list(made[1][dataset].values()) for dataset in ("btcv", "lits")}


@pytest.fixture(scope="session")
def smoke_kidneys(made) -> dict[str, dict[str, kidney.Patient]]:
    """The patients of the kidney phantom of seed 3 in memory, by set and case."""
    return {dataset: made[1][dataset] for dataset in ("btcv-kidney", "kits23")}


@pytest.fixture(scope="session")
def smoke_pancreases(made) -> dict[str, dict[str, pancreas.Patient]]:
    """The patients of the pancreas phantom of seed 3 in memory, by set and case."""
    return {dataset: made[1][dataset] for dataset in ("btcv-pancreas", "msd-pancreas")}


@pytest.fixture(scope="session")
def smoke_chests(made) -> dict[str, dict[str, lung.ChestPatient]]:
    """The chests of seed 3 in memory, by set and case."""
    return {dataset: made[1][dataset] for dataset in ("luna16", "coronacases")}
