"""The pancreas phantom: one patient, from a seed to HU, organ labels and masses, and all of them on disk.

Healthy patients have the layout of BTCV, lesion patients that of task 7 of the Medical Segmentation Decathlon.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.seeds import derive
from ..case import Spacing
from .abdomen import moved, scanned
from .canvas import Canvas
from .files import write_nifti
from .liver_anatomy import LABELS
from .liver_tumours import Lesion, Strata
from .pancreas_anatomy import Surroundings, draw_axis, paint_gland
from .pancreas_neighbours import paint_gut, paint_vessels
from .pancreas_tumours import PancreasTumourPainter, as_organ, draw_obstruction
from .scanner import Scanner, average_slices, begin, blur
from .spec import SizePlan, Spec, read_spec

BTCV_IDS = (2, 4, 7, 21, 22, 23, 24, 26, 27, 28, 31, 33, 40)
"""The published scans that are listed as healthy for the pancreas (``datasets/adapters/btcv_organs.py``)."""
HEIGHT_MM = -36.0
"""Height of the middle of the scan above the liver's hilum."""
TASK = "Task07_Pancreas"


@dataclass(frozen=True, eq=False)
class Patient:
    """A finished scan.

    Attributes:
        hu: int16, shape (z, y, x), LPS.
        labels: uint8, BTCV organ numbers.
        tumour: bool; every mass, cysts too.
        noise: the noise that was added, HU; for tests.
    """

    hu: np.ndarray
    labels: np.ndarray
    tumour: np.ndarray
    noise: np.ndarray
    spacing: Spacing
    scanner: Scanner
    lesions: list[Lesion]


def make_patient(spec: Spec, plan: SizePlan, seed: int, *, style: str, index: Strata | None = None) -> Patient:
    """Make the patient of a seed in a scanner style; without strata of a first mass the pancreas has none."""
    stream, scanner, spacing, space = begin(spec, plan, seed, style)
    canvas = Canvas(moved(space, HEIGHT_MM), spec.entry("hu.air")["value"])
    body = Surroundings(canvas, spec, stream("organs"), scanner.enhancement)
    body.paint()
    rng = stream("pancreas")
    bare, full = body.hu["pancreas_unenhanced"], body.hu["pancreas"]
    tissue = bare + scanner.enhancement * (full - bare)
    at, cut = (0.0, None) if index is None else draw_obstruction(spec, stream("obstruction"), index)
    axis = draw_axis(spec, rng, cut)
    paint_gut(canvas, spec, stream("gut"), body)
    gland = paint_gland(canvas, spec, rng, axis, tissue, body.hu["fat"], cut)
    veins = stream("vessels")
    paint_vessels(canvas, spec, veins, body, axis, body.vessel_levels(veins)[0])

    seen = blur(scanner, average_slices(canvas.liver))
    canvas.labels[(canvas.labels == LABELS["pancreas"]) & (seen < scanner.label_level)] = 0
    painter = PancreasTumourPainter(
        canvas, as_organ(gland), spec, stream("tumours"), spacing, gland, at, body.hu["fat"]
    )
    lesions = [] if index is None else painter.paint(index)

    hu, noise = scanned(canvas, body, spec, "pancreas", stream, scanner, spacing, style)
    return Patient(hu, canvas.labels, painter.truth, noise, spacing, scanner, lesions)


def region(patient: Patient) -> np.ndarray:
    """Return where a patient of the Decathlon is measured, bool (z, y, x): the pancreas and its masses."""
    return (patient.labels == LABELS["pancreas"]) | patient.tumour


def specification() -> Spec:
    """Return the specification of this phantom."""
    return read_spec("pancreas")


def patients(*, seed: int, size: str) -> Iterator[tuple[str, str, Patient]]:
    """Yield set (``btcv-pancreas`` or ``msd-pancreas``), case id and patient, one by one."""
    spec = specification()
    plan = spec.size(size)
    for number in BTCV_IDS[: plan.healthy]:
        made = make_patient(spec, plan, derive(seed, "phantom", "btcv", number), style="btcv")
        yield "btcv-pancreas", f"img{number:04d}", made
    strata = Strata.deal(np.random.default_rng(derive(seed, "phantom", "msd-pancreas")), plan)
    for number, index in enumerate(strata, 1):
        own = derive(seed, "phantom", "msd-pancreas", number)
        yield "msd-pancreas", f"pancreas_{number:03d}", make_patient(spec, plan, own, style="msd", index=index)


def write_patients(root: Path, *, seed: int, size: str) -> Iterator[dict[str, Any]]:
    """Write ``btcv/RawData/Training/img|label``, and ``Task07_Pancreas`` with its ``dataset.json``.

    Yields the row of ``phantom.json`` on every patient.
    """
    listed = []
    for dataset, case, patient in patients(seed=seed, size=size):
        scanner = patient.scanner
        stored = np.rint((patient.hu - scanner.intercept) / scanner.slope).astype(np.int16)
        if dataset == "msd-pancreas":
            mask = region(patient).astype(np.uint8)
            mask[patient.tumour] = 2
            folders, names = (root / TASK / "imagesTr", root / TASK / "labelsTr"), (case, case)
            listed.append({"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"})
        else:
            mask, number = patient.labels, case.removeprefix("img")
            folder = root / "btcv" / "RawData" / "Training"
            folders, names = (folder / "img", folder / "label"), (f"img{number}", f"label{number}")
        images, labels = (home / f"{name}.nii.gz" for home, name in zip(folders, names, strict=True))
        where = {"spacing": patient.spacing, "orientation": scanner.orientation}
        write_nifti(images, stored, **where, slope=scanner.slope, intercept=scanner.intercept)
        write_nifti(labels, mask, **where)
        yield scanner.row(dataset, case, lesions=[lesion.to_json() for lesion in patient.lesions])
    about = {
        "name": "Pancreas",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "pancreas", "2": "cancer"},
        "numTraining": len(listed),
        "numTest": 0,
        "training": listed,
        "test": [],
    }
    (root / TASK / "dataset.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
