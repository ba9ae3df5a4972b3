"""The liver phantom on disk: healthy patients in the layout of BTCV, lesion patients in the layout of LiTS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...common.seeds import derive
from .files import write_nifti
from .liver_anatomy import LABELS
from .liver_tumours import Strata
from .patient import Patient, make_patient
from .spec import Spec, read_spec

BTCV_IDS = (*range(1, 11), *range(21, 41))  # the ids of the published training set


def specification() -> Spec:
    """Return the frozen specification of this phantom."""
    return read_spec("liver")


def patients(*, seed: int, size: str) -> Iterator[tuple[str, str, Patient]]:
    """Yield set (``btcv`` or ``lits``), case id and patient, one by one."""
    spec = specification()
    plan = spec.size(size)
    for number in BTCV_IDS[: plan.healthy]:
        made = make_patient(spec, plan, derive(seed, "phantom", "btcv", number), style="btcv")
        yield "btcv", f"{number:04d}", made
    bearers = Strata.deal(np.random.default_rng(derive(seed, "phantom", "tumour-free")), plan)
    for number, index in enumerate(bearers):
        own = derive(seed, "phantom", "lits", number)
        yield "lits", str(number), make_patient(spec, plan, own, style="lits", index=index)


def write_patients(root: Path, *, seed: int, size: str) -> Iterator[dict[str, Any]]:
    """Write ``btcv/RawData/Training/img|label`` and ``lits/Training Batch 1/volume-N.nii, segmentation-N.nii``.

    Yields the row of ``phantom.json`` on every patient.
    """
    for item in patients(seed=seed, size=size):
        yield _write(root, *item)


def _write(root: Path, dataset: str, case: str, patient: Patient) -> dict[str, Any]:
    if dataset == "btcv":
        folder = root / "btcv" / "RawData" / "Training"
        image, label = folder / "img" / f"img{case}.nii.gz", folder / "label" / f"label{case}.nii.gz"
        mask = patient.labels
    else:
        folder = root / "lits" / "Training Batch 1"
        image, label = folder / f"volume-{case}.nii", folder / f"segmentation-{case}.nii"
        mask = (patient.labels == LABELS["liver"]).astype(np.uint8)
        mask[patient.tumour] = 2
    scanner = patient.scanner
    stored = np.rint((patient.hu - scanner.intercept) / scanner.slope).astype(np.int16)
    where = {"spacing": patient.spacing, "orientation": scanner.orientation}
    write_nifti(image, stored, **where, slope=scanner.slope, intercept=scanner.intercept)
    write_nifti(label, mask, **where)
    return {
        "set": dataset,
        "case": case,
        "spacing_mm": list(patient.spacing),
        "noise_hu": round(scanner.noise, 3),
        "orientation": scanner.orientation,
        "lesions": [lesion.to_json() for lesion in patient.lesions],
    }
