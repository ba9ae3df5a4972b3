"""The lung phantom on disk: healthy patients in the layout of LUNA16, lesion patients in that of COVID-19-CT-Seg."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...common.seeds import derive
from .files import world, write_metaimage, write_nifti
from .lung_opacities import Burden
from .lung_patient import AIRWAY, LEFT, RIGHT, ChestPatient, make_chest
from .spec import Spec, read_spec

LUNA_LABELS = {LEFT: 3, RIGHT: 4, AIRWAY: 5}
ANNOTATIONS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")


def specification() -> Spec:
    """Return the frozen specification of this phantom."""
    return read_spec("lung")


def patients(*, seed: int, size: str) -> Iterator[tuple[str, str, ChestPatient]]:
    """Yield set (``luna16`` or ``coronacases``), case id and patient, one by one; a few healthy have nodules."""
    spec = specification()
    plan = spec.size(size)
    drawn = np.random.default_rng(derive(seed, "phantom", "nodule-scans"))
    with_nodules = drawn.choice(plan.healthy, plan.nodules, replace=False)
    for number in range(plan.healthy):
        own = derive(seed, "phantom", "luna16", number)
        made = make_chest(spec, plan, own, style="luna16", number=number, nodules=number in with_nodules)
        yield "luna16", series_uid(own), made
    for case, patient in lesion_patients(seed=seed, size=size):
        yield "coronacases", case, patient


def lesion_patients(*, seed: int, size: str) -> Iterator[tuple[str, ChestPatient]]:
    """Yield case id and patient of the lesion set."""
    spec = specification()
    plan = spec.size(size)
    burdens = Burden.deal(np.random.default_rng(derive(seed, "phantom", "lesion-free")), plan)
    for number, burden in enumerate(burdens):
        own = derive(seed, "phantom", "coronacases", number)
        made = make_chest(spec, plan, own, style="coronacases", number=number, burden=burden)
        yield f"coronacases_{number + 1:03d}", made


def series_uid(seed: int) -> str:
    """Return a series uid under the root of uids that need no registration."""
    return f"2.25.{derive(seed, 'uid'):010d}{derive(seed, 'uid', 'tail'):010d}".replace("2.25.0", "2.25.1")


def write_patients(root: Path, *, seed: int, size: str) -> Iterator[dict[str, Any]]:
    """Write ``luna16/subset0|seg-lungs-LUNA16|annotations.csv`` and the three folders of ``coronacases``.

    Yields the row of ``phantom.json`` on every patient.
    """
    nodules: list[tuple[Any, ...]] = []
    for dataset, case, patient in patients(seed=seed, size=size):
        if dataset == "luna16":
            _write_luna(root / "luna16", case, patient)
            for nodule in patient.nodules:
                point = world(np.asarray(nodule.centre_mm), patient.hu.shape, patient.spacing)
                nodules.append((case, *(f"{value:.4f}" for value in (*point, nodule.diameter_mm))))
        else:
            _write_corona(root / "coronacases", case, patient)
        yield {
            "set": dataset,
            "case": case,
            "spacing_mm": list(patient.spacing),
            "noise_hu": round(patient.scanner.noise, 3),
            "orientation": patient.scanner.orientation,
            "nodules": len(patient.nodules),
            "lesions": [opacity.to_json() for opacity in patient.opacities],
        }
    with (root / "luna16" / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([ANNOTATIONS, *nodules])


def _write_luna(root: Path, case: str, patient: ChestPatient) -> None:
    where = {"spacing": patient.spacing, "orientation": patient.scanner.orientation}
    labels = np.zeros_like(patient.labels)
    for own, published in LUNA_LABELS.items():
        labels[patient.labels == own] = published
    write_metaimage(root / "subset0" / f"{case}.mhd", patient.hu, **where)
    write_metaimage(root / "seg-lungs-LUNA16" / f"{case}.mhd", labels, **where)


def _write_corona(root: Path, case: str, patient: ChestPatient) -> None:
    where = {"spacing": patient.spacing, "orientation": patient.scanner.orientation}
    lungs = np.where(patient.labels == AIRWAY, 0, patient.labels).astype(np.uint8)
    write_nifti(root / "COVID-19-CT-Seg_20cases" / f"{case}.nii.gz", patient.hu, **where)
    write_nifti(root / "Lung_Mask" / f"{case}.nii.gz", lungs, **where)
    write_nifti(root / "Infection_Mask" / f"{case}.nii.gz", patient.lesion.astype(np.uint8), **where)
