"""The liver phantom: one patient, from a seed to HU, organ labels and lesions, and all of them on disk.

Healthy patients have the layout of BTCV, lesion patients that of LiTS.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.seeds import derive
from ..case import Spacing
from .canvas import SUB, Canvas
from .fields import tissue_texture
from .files import write_nifti
from .liver_anatomy import LABELS, Body, Liver
from .liver_artefacts import spoil
from .liver_parenchyma import slow_variation, uneven
from .liver_tumours import Lesion, Strata, TumourPainter
from .scanner import Scanner, add_noise, average_slices, begin, blur
from .shapes import Point, lay
from .spec import SizePlan, Spec, read_spec
from .vessels import grow, occupy

BTCV_IDS = (*range(1, 11), *range(21, 41))  # the ids of the published training set
TREES: dict[str, tuple[list[Point], list[Point]]] = {
    "portal": ([(12, 14, -46), (2, 8, -32), (-14, 4, -18)], [(-46, 4, -10), (4, -26, 8)]),
    "hepatic": ([(-24, 30, 58), (-24, 22, 50)], [(-66, 14, 34), (-36, -18, 32), (4, -22, 36)]),
}  # trunk and first limbs, x, y, z in mm


@dataclass(frozen=True, eq=False)
class Patient:
    """A finished scan.

    Attributes:
        hu: int16, shape (z, y, x), LPS.
        labels: uint8, BTCV organ numbers.
        vessels: bool, voxels mostly filled by a portal or hepatic branch; for tests.
        noise: the noise that was added, HU; for tests.
    """

    hu: np.ndarray
    labels: np.ndarray
    tumour: np.ndarray
    vessels: np.ndarray
    noise: np.ndarray
    spacing: Spacing
    scanner: Scanner
    lesions: list[Lesion]


def make_patient(spec: Spec, plan: SizePlan, seed: int, *, style: str, index: Strata | None = None) -> Patient:
    """Make the patient of a seed in a scanner style; without strata of a first tumour the liver has none."""
    stream, scanner, spacing, space = begin(spec, plan, seed, style)
    canvas = Canvas(space, spec.entry("hu.air")["value"])
    body = Body(canvas, spec, stream("organs"), scanner.enhancement)
    liver = body.paint()
    vessels = _parenchyma(canvas, body, liver, spec, stream("vessels"))

    # Voxels that look partly like something else are no liver to the annotator.
    seen = blur(scanner, average_slices(canvas.liver))
    canvas.labels[(canvas.labels == LABELS["liver"]) & (seen < scanner.label_level)] = 0
    painter = TumourPainter(canvas, liver, spec, stream("tumours"), spacing)
    lesions = [] if index is None else painter.paint(index)
    broad = slow_variation(canvas, liver, spec, stream("broad variation"), "broad")
    canvas.hu[liver.box] += broad * canvas.liver[liver.box]

    clean = blur(scanner, average_slices(canvas.hu))
    clean += _texture(canvas, clean, spec, stream("texture"), spacing)
    clean = spoil(clean, spec, style, stream("artefacts"), spacing)
    outer = (body.half[0] + body.fat, body.half[1] + body.fat)
    noisy = add_noise(scanner, clean, stream("noise"), outer)
    hu = np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)
    inner = average_slices(vessels) >= 0.5
    return Patient(hu, canvas.labels, painter.truth, inner, noisy - clean, spacing, scanner, lesions)


def _parenchyma(canvas: Canvas, body: Body, liver: Liver, spec: Spec, rng: np.random.Generator) -> np.ndarray:
    """Paint uneven tissue, periportal halo and both vessel trees into the liver; return the vessels' occupancy."""
    space, box = canvas.space, liver.box
    share, hu = canvas.liver[box], canvas.hu[box]
    change = uneven(canvas, liver, spec, rng)

    inside = np.nonzero(liver.distance < -6)
    x, y, z = (coordinate[inside] for coordinate in space.at(box))
    cloud = np.stack([x, y, z], 1).astype(float)

    common = {
        "leaf_radius": spec.draw(rng, "vessels.leaf_radius_mm"),
        "exponent": spec.draw(rng, "vessels.murray_exponent"),
    }
    trees = {
        name: grow(
            rng,
            trunk,
            limbs,
            cloud[rng.integers(len(cloud), size=spec.entry(f"vessels.{name}_leaves")["value"])],
            root_radius=spec.draw(rng, f"vessels.{name}_root_radius_mm"),
            **common,
        )
        for name, (trunk, limbs) in TREES.items()
    }
    halo, drop = spec.draw(rng, "texture.periportal_width_mm"), spec.draw(rng, "texture.periportal_drop")
    if rng.random() >= spec.draw(rng, "texture.periportal_probability"):
        drop = 0.0
    portal, sheath = occupy(space, trees["portal"], sheath=halo)
    hepatic, _ = occupy(space, trees["hepatic"])
    hu += (change - np.float32(drop) * sheath[box]) * share
    levels = body.vessel_levels(rng)
    for vessel, level in zip((portal, hepatic), levels, strict=True):
        lay(hu, vessel[box] * share, level)
    # BTCV labels the part of the portal vein that lies outside the liver as an organ of its own.
    outside = portal * (1 - canvas.liver)
    lay(canvas.hu, outside, levels[0])
    canvas.labels[outside[SUB // 2 :: SUB] >= 0.5] = LABELS["portal vein"]
    return np.maximum(portal, hepatic) * canvas.liver


def _texture(canvas: Canvas, clean: np.ndarray, spec: Spec, rng: np.random.Generator, spacing: Spacing) -> np.ndarray:
    """Return the fine texture of the parenchyma, and the coarser one of the other tissues."""
    liver = average_slices(canvas.liver)
    shape = (clean.shape[0], clean.shape[1], clean.shape[2])
    fine = tissue_texture(rng, shape, spacing, spec.draw(rng, "texture.liver_fine_scale_mm"))
    other = fine[::-1, ::-1, ::-1]
    tissue = (clean > -400) * (1 - liver)
    sd = np.float32(spec.draw(rng, "texture.liver_fine_sd"))
    return sd * fine * liver + np.float32(spec.draw(rng, "texture.tissue_sd")) * other * tissue


def specification() -> Spec:
    """Return the specification of this phantom."""
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
    for dataset, case, patient in patients(seed=seed, size=size):
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
        yield scanner.row(dataset, case, lesions=[lesion.to_json() for lesion in patient.lesions])
