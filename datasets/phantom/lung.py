"""The lung phantom: one chest, from a seed to HU, lung labels and opacities, and all of them on disk.

Healthy patients have the layout of LUNA16, lesion patients that of COVID-19-CT-Seg.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...common.seeds import derive
from ..case import Spacing
from .airways import draw_airways, draw_vessels
from .canvas import SUB
from .fields import tissue_texture
from .files import world, write_metaimage, write_nifti
from .lung_anatomy import Chest
from .lung_artefacts import Motion, streaks
from .lung_findings import Findings
from .lung_lobules import Cells, Tissue
from .lung_opacities import Burden, Nodule, Opacity, Pneumonia, add_nodules
from .scanner import Scanner, add_noise, average_slices, begin, blur
from .shapes import lay
from .spec import SizePlan, Spec, read_spec

LEFT, RIGHT, AIRWAY = 1, 2, 3
LUNA_LABELS = (0, 3, 4, 5)  # what LUNA16 calls nothing, left, right and airway
ANNOTATIONS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
MIDDLE = slice(SUB // 2, None, SUB)


@dataclass(frozen=True, eq=False)
class ChestPatient:
    """A finished scan.

    Attributes:
        hu: int16, shape (z, y, x), LPS.
        labels: uint8: 1 left lung, 2 right lung, 3 trachea and main bronchi.
        lobules: int32, the secondary lobule of every voxel of lung, -1 outside; for tests.
        vessels, airways: bool, mostly filled by a vessel or by the air of a bronchus inside the lungs; for tests.
        noise: the noise that was added, HU; for tests.
        nodules: what ``annotations.csv`` names, centres as an index z, y, x into the arrays.
    """

    hu: np.ndarray
    labels: np.ndarray
    lesion: np.ndarray
    lobules: np.ndarray
    vessels: np.ndarray
    airways: np.ndarray
    noise: np.ndarray
    spacing: Spacing
    scanner: Scanner
    opacities: list[Opacity]
    nodules: list[Nodule]


def make_chest(
    spec: Spec,
    plan: SizePlan,
    seed: int,
    *,
    style: str,
    number: int = 0,
    burden: Burden | None = None,
    nodules: bool = False,
) -> ChestPatient:
    """Make the patient of a seed in a scanner style; without a burden the lungs have no opacity.

    The patients of a set go through the orientations of their style in turn, by ``number``.
    """
    stream, scanner, spacing, space = begin(spec, plan, seed, style)
    turns = spec.entry(f"styles.{style}.orientations")["choice"]
    scanner = replace(scanner, orientation=turns[number % len(turns)])
    chest = Chest(space, spec, stream("organs"), scanner.enhancement)
    lungs = chest.paint()

    hu, inside = chest.hu, lungs.share
    tissue = Tissue.of(space, lungs, stream("bends"), **_bend(spec))
    lobules = Cells(tissue, spec.draw(stream("lobule-size"), "lung.lobule_mm"), stream("lobules"))
    located = lobules.locate(tissue)
    findings = Findings(
        hu[tissue.at],
        space,
        tissue,
        lungs.left[tissue.at],
        lobules,
        located,
        chest.exhaled,
        spec,
        stream("findings"),
    )
    findings.paint()
    hu[tissue.at] += inside[tissue.at] * (findings.hu - hu[tissue.at])
    texture = tissue_texture(
        stream("texture"),
        space.shape,
        (spacing[0] / SUB, *spacing[1:]),
        spec.draw(stream("grain"), "lung.fine_scale_mm"),
    )
    hu += np.float32(spec.draw(stream("graininess"), "lung.fine_sd")) * texture * inside
    vessels = draw_vessels(space, lungs, spec, stream("vessels")) * inside
    lay(hu, vessels, chest.blood)
    airways = draw_airways(space, lungs, spec, stream("airways"))
    wall = np.maximum(airways.outer * inside, airways.central)
    air = airways.lumen * np.maximum(inside, airways.central)
    lay(hu, wall, chest.values["airway_wall"])
    lay(hu, air, chest.values["lumen"])

    seen = blur(scanner, average_slices(inside)) >= scanner.label_level
    labels = np.where(lungs.left[MIDDLE], LEFT, RIGHT).astype(np.uint8) * seen
    labels[(airways.central[MIDDLE] >= 0.5) & ~seen] = AIRWAY

    sick = Pneumonia(hu, space, lungs, air, seen, tissue, lobules, *located[:2], spec, stream("lesions"), spacing)
    opacities = [] if burden is None else sick.paint(burden)
    painted = add_nodules(hu, space, lungs, spec, stream("nodules")) if nodules else []
    first = [float(axis[place]) for axis, place in zip(space.axes, (SUB // 2, 0, 0), strict=True)]
    found = [
        replace(nodule, centre_mm=tuple((nodule.centre_mm[2 - k] - first[k]) / spacing[k] for k in range(3)))
        for nodule in painted
    ]

    hu = Motion.draw(spec, stream("motion")).smear(hu, space, chest)
    clean = blur(scanner, average_slices(hu))
    outer = (chest.half[0] + chest.fat, chest.half[1] + chest.fat)
    noisy = add_noise(scanner, clean, stream("noise"), outer)
    streaky = noisy + streaks(spec, stream("streaks"), space, clean)
    padding = spec.draw(stream("padding"), f"styles.{style}.padding")
    stored = np.clip(np.rint(streaky), -1024, 3071)
    if padding < -1024:
        axis = np.arange(plan.pixels) - (plan.pixels - 1) / 2
        stored[:, np.hypot(axis[:, None], axis[None]) > plan.pixels / 2] = padding
    return ChestPatient(
        stored.astype(np.int16),
        labels,
        sick.truth,
        sick.on_slices(located[0], -1),
        average_slices(vessels) >= 0.5,
        average_slices(air * inside) >= 0.5,
        noisy - clean,
        spacing,
        scanner,
        opacities,
        found,
    )


def _bend(spec: Spec) -> dict[str, float]:
    return {name: spec.entry(f"lung.wall_{name}_mm")["value"] for name in ("bend", "scale")}


def specification() -> Spec:
    """Return the specification of this phantom."""
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
        home, where = root / dataset, {"spacing": patient.spacing, "orientation": patient.scanner.orientation}
        if dataset == "luna16":
            labels = np.asarray(LUNA_LABELS, np.uint8)[patient.labels]
            write_metaimage(home / "subset0" / f"{case}.mhd", patient.hu, **where)
            write_metaimage(home / "seg-lungs-LUNA16" / f"{case}.mhd", labels, **where)
            for nodule in patient.nodules:
                point = world(np.asarray(nodule.centre_mm), patient.hu.shape, patient.spacing)
                nodules.append((case, *(f"{value:.4f}" for value in (*point, nodule.diameter_mm))))
        else:
            lungs = np.where(patient.labels == AIRWAY, 0, patient.labels).astype(np.uint8)
            write_nifti(home / "COVID-19-CT-Seg_20cases" / f"{case}.nii.gz", patient.hu, **where)
            write_nifti(home / "Lung_Mask" / f"{case}.nii.gz", lungs, **where)
            write_nifti(home / "Infection_Mask" / f"{case}.nii.gz", patient.lesion.astype(np.uint8), **where)
        lesions = [opacity.to_json() for opacity in patient.opacities]
        yield patient.scanner.row(dataset, case, nodules=len(patient.nodules), lesions=lesions)
    with (root / "luna16" / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([ANNOTATIONS, *nodules])
