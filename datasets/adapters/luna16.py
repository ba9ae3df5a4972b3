"""LUNA16: chest CT of the nodule challenge, the healthy lung set once slices with nodules are left out."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...common.errors import DataError
from ...common.seeds import derive
from ..case import Case, Note, Truth
from ..dataset import CaseRef, DatasetCard
from ..reading.geometry import Grid
from ..reading.mhd_io import canonical_index, read_header, read_mhd, read_mhd_labels
from ..reading.side_tables import natural_key, patients_of, read_table
from ..roi.lung_roi import lung_roi
from .lidc_table import known
from .surveying import Survey, SurveyedDataset, by_kind, unique

LUNGS = frozenset({3, 4})
MASK_LABELS = frozenset({0, *LUNGS, 5})
"""3 and 4 are the lungs, 5 is the trachea with the main bronchi and not part of the region of interest."""
DRAWN, DRAW_SEED = 453, 0
MARGIN_SLICES = 1
COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
LUNG_HU = (-980.0, -500.0)

_MASK_FOLDER = "seg-lungs"


Nodule = tuple[tuple[float, float, float], float]
"""One row of ``annotations.csv``: centre in LPS millimetres (x, y, z) and diameter in mm."""


class LUNA16(SurveyedDataset):
    """Chest CT of LIDC-IDRI with automatic lung masks; slices near an annotated nodule have no region of interest.

    ``drawn`` are the series used, sorted (see :func:`draw`); ``nodules`` what ``annotations.csv`` says, by series.
    """

    card = DatasetCard(
        name="luna16",
        title="LUNA16, LUng Nodule Analysis 2016",
        anatomy="lung",
        role="healthy",
        licence="CC BY 4.0 as listed for the challenge files; the scans are those of LIDC-IDRI (CC BY 3.0)",
        citation=(
            "Setio et al., Validation, comparison, and combination of algorithms for automatic detection of pulmonary "
            "nodules in computed tomography images: the LUNA16 challenge, Medical Image Analysis 42, 2017, 1-13. "
            "Healthy is a convention here: slices with an annotated nodule are left out, but nodules below 3 mm, those "
            "marked by fewer than 3 of 4 readers and any other disease remain"
        ),
        obtain=(
            "luna16.grand-challenge.org, page Download: subset0.zip to subset9.zip, seg-lungs-LUNA16.zip and "
            "annotations.csv; unpack all into one folder luna16"
        ),
        layout=(
            "subset0 to subset9/<seriesuid>.mhd with .raw (or .zraw) at any depth, annotations.csv there or in "
            "CSVFILES/, and optionally seg-lungs-LUNA16/<seriesuid>.mhd with .zraw"
        ),
        roi_source="seg-lungs-LUNA16 labels 3 and 4 (lungs without trachea), without the slices near a nodule",
        truth="none",
    )
    folders = ("luna16", "luna-16", "luna_16", "luna")
    pattern = r".+\.mhd|annotations\.csv"

    def __init__(self) -> None:
        super().__init__()
        self.drawn: tuple[str, ...] = ()
        self.nodules: dict[str, tuple[Nodule, ...]] = {}

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        found = by_kind(files, _identify)
        images, masks = unique(found["image"], survey), unique(found["mask"], survey)
        if not images:
            if not survey.problems:
                survey.nothing_of(self.card, root)
            return
        table = _annotation_file([path for _, path in found["table"]], root)
        self.nodules = read_annotations(table)
        self.drawn = draw(images)
        if unknown := sorted(set(self.nodules) - set(images)):
            if len(unknown) == len(self.nodules):
                raise DataError(
                    f"{table}: none of its {len(unknown)} series is among the {len(images)} scans found (first: "
                    f"{unknown[0]}); use the annotations.csv of these scans, so that slices with nodules are found"
                )
            rows = sum(len(self.nodules[uid]) for uid in unknown)
            survey.notes.append(
                f"{table}: {rows} annotations of {len(unknown)} series that are not among the {len(images)} scans "
                f"found (first: {unknown[0]}), ignored"
            )
        patients, warnings = patients_of(root, self.card.name, self.drawn)
        patients = {uid: _patient(uid) if name == uid else name for uid, name in patients.items()}
        survey.notes += warnings
        if len(self.drawn) < len(images):
            survey.notes.append(
                f"{len(self.drawn)} of {len(images)} series are used, drawn with seed {DRAW_SEED}; they are the cases "
                "listed here, in the split of every record and in LUNA16.drawn"
            )
        if bare := [uid for uid in self.drawn if uid not in masks]:
            survey.notes.append(
                f"{len(bare)} of {len(self.drawn)} series without a mask in seg-lungs-LUNA16 (first: {bare[0]}); "
                "their lungs are segmented here"
            )
        survey.refs = [_ref(uid, patients[uid], images[uid], masks.get(uid), table) for uid in self.drawn]

    def load(self, case_id: str) -> Case:
        """Read scan and lungs; slices within the margin of a nodule have an empty region of interest."""
        ref = self._ref(case_id)
        volume = read_mhd(ref.image)
        image = volume.data.astype(np.float32)
        notes, mask = list(volume.notes), None
        if ref.label is not None:
            labels = read_mhd_labels(ref.label, volume, MASK_LABELS)
            mask = np.isin(labels.data, list(LUNGS))
            notes += labels.notes
        roi, source, known = lung_roi(case_id, image, volume.spacing, mask, notes=notes)
        notes = list(known)
        nodules = self.nodules.get(case_id, ())
        if nodules:
            near = self._near_nodules(ref, nodules, volume.grid, volume.spacing[0])
            roi = roi.copy()
            lost = int(roi[near].any(axis=(1, 2)).sum())
            roi[near] = False
            if not roi.any():
                raise DataError(
                    f"{ref.image}: no slice with lung is left once those near its {len(nodules)} nodules are taken "
                    f"out; leave it out with --exclude {self.card.name}:{case_id}"
                )
            where = f"within diameter/2 + {MARGIN_SLICES} slice of {len(nodules)} annotated nodules"
            notes.append(Note(f"{lost} slices with lung left out of the region of interest: {where}"))
        return Case(case_id, ref.patient, image, volume.spacing, roi, tuple(notes), source, volume.trust)

    def load_truth(self, case_id: str) -> Truth:
        self._ref(case_id)
        return Truth(case_id)

    def inspect(self, case: Case, truth: Truth | None) -> list[str]:
        """Report a region of interest that does not look like lung."""
        median = float(np.median(case.image[case.roi]))
        if LUNG_HU[0] <= median <= LUNG_HU[1]:
            return []
        return [
            f"median of the lungs is {median:.0f} HU, expected {LUNG_HU[0]:.0f} to {LUNG_HU[1]:.0f}: "
            "the mask may lie beside the lungs, or the intensities are not HU"
        ]

    def _near_nodules(self, ref: CaseRef, nodules: Sequence[Nodule], grid: Grid, step: float) -> np.ndarray:
        """Return the z indices of the slices near a nodule."""
        z, y, x = grid.to_lps(np.empty(grid.shape, dtype=bool)).shape
        near = np.zeros(z, dtype=bool)
        for place, diameter in nodules:
            centre = canonical_index(grid, place)
            if not all(-0.5 <= c <= n - 0.5 for c, n in zip(centre, (z, y, x), strict=True)):
                where = ", ".join(f"{c:g}" for c in place)
                raise DataError(
                    f"{ref.image}: annotated nodule at ({where}) mm lies outside the scan; use header and "
                    f"annotations.csv of one release, or leave the scan out with --exclude {self.card.name}:{ref.id}"
                )
            near[slices_near(centre[0], diameter, step, z)] = True
        return np.flatnonzero(near)


def draw(uids: Iterable[str], count: int = DRAWN, seed: int = DRAW_SEED) -> tuple[str, ...]:
    """Return ``count`` of the uids, sorted naturally; all of them where there are not more.

    Those with the smallest hash of seed and uid are drawn, so that the draw is the same on every platform and a scan
    that is missing is replaced without changing the others. Yao et al. 2021 use 453 of 888 and do not say which.
    """
    ranked = sorted(set(uids), key=lambda uid: (derive(seed, "luna16", uid), uid))
    return tuple(sorted(ranked[:count], key=natural_key))


def slices_near(centre: float, diameter: float, step: float, count: int) -> slice:
    """Return the slices within diameter/2 and one further slice of ``centre`` (index), cut to ``count`` slices.

    ``diameter`` and ``step``, the distance between slices, in mm.
    """
    reach = diameter / 2 / step + MARGIN_SLICES + 1e-6
    start, stop = math.ceil(centre - reach), math.floor(centre + reach) + 1
    return slice(min(max(start, 0), count), min(max(stop, 0), count))


def read_annotations(path: Path) -> dict[str, tuple[Nodule, ...]]:
    """Read ``annotations.csv`` (columns seriesuid, coordX, coordY, coordZ, diameter_mm); a header alone means none."""
    found: dict[str, list[Nodule]] = defaultdict(list)
    for line, row in read_table(path, COLUMNS):
        try:
            x, y, z, diameter = (float(row[column]) for column in COLUMNS[1:])
        except ValueError:
            x = y = z = diameter = math.nan
        if not (all(map(math.isfinite, (x, y, z))) and 0 < diameter < 500):
            values = ", ".join(row[column] for column in COLUMNS[1:])
            raise DataError(
                f"{path}, line {line}: {values}; expected centre x, y, z and a positive diameter, all in mm"
            )
        found[row["seriesuid"]].append(((x, y, z), diameter))
    return {uid: tuple(nodules) for uid, nodules in found.items()}


def _identify(path: Path) -> tuple[str, str]:
    if path.suffix.lower() != ".mhd":
        return "table", path.name
    return "mask" if is_lung_mask(path) else "image", path.name[: -len(".mhd")]


def is_lung_mask(path: Path) -> bool:
    """Whether a file is a lung mask of the challenge, by the name of its folder."""
    return path.suffix.lower() == ".mhd" and any(part.lower().startswith(_MASK_FOLDER) for part in path.parts[-3:-1])


def _patient(uid: str) -> str:
    """Return the patient of LIDC-IDRI, of whom the challenge may have two scans; the uid of a series from elsewhere."""
    found = known(uid)
    return uid if found is None else found.patient


def _annotation_file(files: Sequence[Path], root: Path) -> Path:
    if not files:
        raise DataError(
            f"{root}: no annotations.csv, so slices with nodules cannot be told from healthy ones; put the challenge's "
            f"annotations.csv beside the subsets (for scans without nodules the line {','.join(COLUMNS)} alone)"
        )
    if len({path.read_bytes() for path in files}) > 1:
        raise DataError(f"annotations.csv lies in several versions: {', '.join(map(str, files))}; keep one of them")
    return min(files, key=lambda path: (len(path.parts), path))


def _ref(uid: str, patient: str, image: Path, mask: Path | None, table: Path) -> CaseRef:
    """Name every file whose bytes decide the case; a data file that is not there is reported when the case is read."""
    extra = [table]
    for header in filter(None, (image, mask)):
        with suppress(DataError):
            data = read_header(header).data
            if data.is_file() and data != header:
                extra.append(data)
    return CaseRef(uid, patient, image, mask, tuple(extra))
