"""The kidney phantom: one patient, from a seed to HU, organ labels, cysts and tumours, and all of them on disk.

Healthy patients have the layout of BTCV, lesion patients that of KiTS23.
"""

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ...common.seeds import derive
from ..case import Spacing
from .abdomen import moved, scanned
from .canvas import Canvas
from .files import COMPRESSION, write_nifti
from .kidney_anatomy import LABELS, Phase, paint_cysts, paint_kidneys
from .kidney_tumours import KidneyTumourPainter
from .liver_anatomy import Body, Liver
from .liver_tumours import Lesion, Strata
from .scanner import Scanner, average_slices, begin, blur
from .spec import SizePlan, Spec, read_spec

BTCV_IDS = (2, 4, 6, 22, 26, 28, 35)
"""The published scans that are listed as healthy for the kidneys (``datasets/adapters/btcv_organs.py``)."""
HEIGHT_MM = -58.0
"""Height of the middle of the scan above the liver's hilum."""


@dataclass(frozen=True, eq=False)
class Patient:
    """A finished scan.

    Attributes:
        hu: int16, shape (z, y, x), LPS.
        labels: uint8, BTCV organ numbers.
        tumour, cyst: bool; a cyst is no lesion, and where both meet it is tumour.
        noise: the noise that was added, HU; for tests.
    """

    hu: np.ndarray
    labels: np.ndarray
    tumour: np.ndarray
    cyst: np.ndarray
    noise: np.ndarray
    spacing: Spacing
    scanner: Scanner
    lesions: list[Lesion]


def make_patient(spec: Spec, plan: SizePlan, seed: int, *, style: str, index: Strata | None = None) -> Patient:
    """Make the patient of a seed in a scanner style; without strata of a first tumour the kidneys have none."""
    stream, scanner, spacing, space = begin(spec, plan, seed, style)
    canvas = Canvas(moved(space, HEIGHT_MM), spec.entry("hu.air")["value"])
    body = Body(canvas, spec, stream("organs"), scanner.enhancement)
    body.paint()
    rng = stream("kidneys")
    cortex = spec.draw(rng, "kidney.cortex")
    below = spec.draw(rng, f"kidney.{style}_medulla_below")
    phase = Phase(cortex, cortex - below, body.hu["fat"])
    kidneys = paint_kidneys(canvas, spec, rng, phase, body.hu["aorta"])
    cyst = paint_cysts(canvas, spec, stream("cysts"), kidneys)

    seen = blur(scanner, average_slices(canvas.liver))
    ours = np.isin(canvas.labels, (LABELS["right kidney"], LABELS["left kidney"]))
    canvas.labels[ours & (seen < scanner.label_level)] = 0
    whole = Liver(phase.medulla, kidneys[0].box, kidneys[0].distance)
    painter = KidneyTumourPainter(canvas, whole, spec, stream("tumours"), spacing, phase, kidneys)
    lesions = [] if index is None else painter.paint(index)

    hu, noise = scanned(canvas, body, spec, "kidney", stream, scanner, spacing, style)
    return Patient(hu, canvas.labels, painter.truth, cyst & ~painter.truth, noise, spacing, scanner, lesions)


def region(patient: Patient) -> np.ndarray:
    """Return where a KiTS23 patient is measured, bool (z, y, x): kidneys and tumours without cysts."""
    kidneys = np.isin(patient.labels, (LABELS["right kidney"], LABELS["left kidney"]))
    return (kidneys | patient.tumour) & ~patient.cyst


def specification() -> Spec:
    """Return the specification of this phantom."""
    return read_spec("kidney")


def patients(*, seed: int, size: str) -> Iterator[tuple[str, str, Patient]]:
    """Yield set (``btcv-kidney`` or ``kits23``), case id and patient, one by one."""
    spec = specification()
    plan = spec.size(size)
    for number in BTCV_IDS[: plan.healthy]:
        made = make_patient(spec, plan, derive(seed, "phantom", "btcv", number), style="btcv")
        yield "btcv-kidney", f"img{number:04d}", made
    for number, index in enumerate(Strata.deal(np.random.default_rng(derive(seed, "phantom", "kits23")), plan)):
        own = derive(seed, "phantom", "kits23", number)
        yield "kits23", f"case_{number:05d}", make_patient(spec, plan, own, style="kits", index=index)


def write_patients(root: Path, *, seed: int, size: str) -> Iterator[dict[str, Any]]:
    """Write ``btcv/RawData/Training/img|label``, and ``kits23/dataset/case_NNNNN`` with ``kits23.json``.

    Yields the row of ``phantom.json`` on every patient.
    """
    records = []
    for dataset, case, patient in patients(seed=seed, size=size):
        scanner = patient.scanner
        if dataset == "kits23":
            mask = region(patient).astype(np.uint8)
            mask[patient.cyst], mask[patient.tumour] = 3, 2
            folder = root / "kits23" / "dataset" / case
            _write_kits(folder / "imaging.nii.gz", patient.hu.astype(np.float64), patient.spacing)
            _write_kits(folder / "segmentation.nii.gz", mask, patient.spacing)
            records.append({"case_id": case, "voxel_spacing": list(patient.spacing)})
        else:
            folder, number = root / "btcv" / "RawData" / "Training", case.removeprefix("img")
            stored = np.rint((patient.hu - scanner.intercept) / scanner.slope).astype(np.int16)
            where = {"spacing": patient.spacing, "orientation": scanner.orientation}
            image = folder / "img" / f"img{number}.nii.gz"
            write_nifti(image, stored, **where, slope=scanner.slope, intercept=scanner.intercept)
            write_nifti(folder / "label" / f"label{number}.nii.gz", patient.labels, **where)
        yield scanner.row(dataset, case, lesions=[lesion.to_json() for lesion in patient.lesions])
    (root / "kits23" / "dataset" / "kits23.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def _write_kits(path: Path, array: np.ndarray, spacing: Spacing) -> None:
    """Write an LPS array (z, y, x) as KiTS23 does: axes to the feet, the back and the left, no qform, no origin."""
    z, y, x = spacing
    affine = np.array([[0, 0, -x, 0], [0, -y, 0, 0], [-z, 0, 0, 0], [0, 0, 0, 1]], float)
    header = nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    image = nib.Nifti1Image(np.ascontiguousarray(array[::-1]), affine, header)
    image.header.set_sform(affine, code=2)
    image.header.set_qform(None, code=0)
    image.header.set_zooms(spacing)
    image.header.set_xyzt_units("mm")
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=buffer, mtime=0) as file:
        file.write(image.to_bytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
