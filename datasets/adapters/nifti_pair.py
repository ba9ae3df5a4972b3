"""Shared by sets that store a CT and one label file per case as NIfTI."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...common.errors import DataError
from ..case import Case, Note, Spacing, Trust, Truth, warning
from ..dataset import CaseRef, Dataset, DatasetCard
from ..reading.orientation import Anatomy, flips_from_liver
from ..reading.tables import natural_key, read_patients, read_table
from ..reading.volume_io import Labels, Volume, read_grid, read_labels, read_volume
from ..reading.walk import find_files

SPACING_TABLE = "spacing.csv"


@dataclass
class Survey:
    """What a look at names and folders found: usable cases, problems that stop a run, and remarks that don't.

    ``absent`` says that nothing below the folder looks like this set.
    """

    refs: list[CaseRef] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    absent: bool = False

    def nothing_of(self, card: DatasetCard, root: Path) -> None:
        """Report that ``root`` holds no case of a set."""
        self.absent = True
        self.problems.append(f"{root}: no case of {card.title} found; expected {card.layout}; {card.obtain}")


class NiftiPairDataset(Dataset):
    """Base of an adapter whose cases are a CT file and a label file.

    A subclass names its folders, its labels and how files pair (:meth:`pair`). ``folders`` are the names under which
    the set is looked for in a data root, ``twin_folders`` those of another release of the same scans, looked into as
    well. ``case_labels`` are all values that may occur in a label file, ``roi_labels`` make the region of interest,
    ``lesion_labels`` the truth.
    """

    folders: ClassVar[tuple[str, ...]]
    twin_folders: ClassVar[tuple[str, ...]] = ()
    case_labels: ClassVar[frozenset[int]]
    roi_labels: ClassVar[frozenset[int]]
    lesion_labels: ClassVar[frozenset[int]] = frozenset()

    def __init__(self) -> None:
        self._refs: dict[str, CaseRef] = {}
        self._spacing: dict[str, Spacing] = {}
        self.notes: tuple[str, ...] = ()

    @abstractmethod
    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Return image and label by case id; what doesn't pair goes to ``survey``."""

    def survey(self, root: Path) -> Survey:
        """Look at names and folders below ``root`` and report everything found, good or bad."""
        root = Path(root)
        survey = Survey()
        files = listed(root, survey, r".*\.nii(\.gz)?", self.folders, self.twin_folders)
        if files is None:
            return survey
        pairs = self.pair(files, survey)
        if not pairs and not survey.problems:
            survey.nothing_of(self.card, root)
        ids = sorted(pairs, key=natural_key)
        try:
            patients, warnings = read_patients(root).assign(self.card.name, ids)
            self._spacing = read_spacings(root, self.card.name)
        except DataError as error:
            survey.problems.append(str(error))
            return survey
        survey.notes += warnings
        # A case named in the side table carries it as one of its files, so that a changed table is a changed case.
        tables = dict.fromkeys(self._spacing, (root / SPACING_TABLE,))
        survey.refs = [CaseRef(case, patients[case], *pairs[case], extra=tables.get(case, ())) for case in ids]
        self._refs = {ref.id: ref for ref in survey.refs}
        return survey

    def discover(self, root: Path) -> list[CaseRef]:
        """List the cases below ``root``, sorted naturally; ``notes`` then holds remarks about the folder."""
        survey = self.survey(root)
        if survey.problems:
            raise DataError("\n".join(survey.problems))
        self.notes = tuple(survey.notes)
        return survey.refs

    def load(self, case_id: str) -> Case:
        """Read image and region of interest; see :class:`Dataset` for what is refused."""
        ref = self._ref(case_id)
        volume, labels, roi, anatomy = self._read(ref)
        spacing, trust, found = self._geometry(case_id, volume)
        notes = [*volume.notes, *labels.notes]
        flips = ()
        if not volume.grid.trusted:
            flips, trust = anatomy.flipped, replace(trust, orientation_source="anatomy")
            notes.append(_decision(anatomy))
        elif anatomy.x:
            wrong = "the liver lies on the patient's left although the header is intact"
            why = f"wrong affine, mirrored export or situs inversus; look at {ref.image.name} before using it"
            notes.append(warning(f"{wrong}: {why}"))
        return Case(
            case_id,
            ref.patient,
            np.ascontiguousarray(np.flip(volume.data, flips), dtype=np.float32),
            spacing,
            np.ascontiguousarray(np.flip(roi, flips)),
            (*notes, *found),
            trust=trust,
        )

    def load_truth(self, case_id: str) -> Truth:
        """Read the lesion mask on the grid of :meth:`load`; a healthy set has none."""
        if not self.lesion_labels:
            return Truth(case_id)
        ref = self._ref(case_id)
        grid = read_grid(ref.image)
        if grid.trusted:
            labels, flips = read_labels(_label(ref), grid, self.case_labels), ()
        else:
            _, labels, _, anatomy = self._read(ref)
            flips = anatomy.flipped
        lesion = np.ascontiguousarray(np.flip(_is_in(labels, self.lesion_labels), flips))
        return Truth(case_id, lesion, np.asarray(lesion.any(axis=(1, 2))))

    def inspect(self, case: Case, truth: Truth | None) -> list[str]:
        """Return findings about one case for ``bench data check``."""
        return []

    def inspect_all(self, lesion_voxels: Mapping[str, int]) -> list[str]:
        """Return findings about the set as a whole for ``bench data check``."""
        return []

    def _geometry(self, case_id: str, volume: Volume) -> tuple[Spacing, Trust, list[Note]]:
        """Return the voxel size of a case, what to think of it, and a note where the side table gives it."""
        if case_id not in self._spacing:
            return volume.spacing, volume.trust, []
        spacing = self._spacing[case_id]
        trust = replace(volume.trust, spacing_source="table", spacing_trusted=True)
        return spacing, trust, [Note(f"spacing {' x '.join(f'{s:g}' for s in spacing)} mm (z, y, x) from spacing.csv")]

    def _ref(self, case_id: str) -> CaseRef:
        try:
            return self._refs[case_id]
        except KeyError:
            known = f"{len(self._refs)} cases known" if self._refs else "call discover(root) first"
            raise DataError(f"{self.card.name}: no case {case_id!r} ({known})") from None

    def _read(self, ref: CaseRef) -> tuple[Volume, Labels, np.ndarray, Anatomy]:
        """Return volume, labels and region of interest in the order of the header, and what anatomy says about it."""
        volume = read_volume(ref.image)
        labels = read_labels(_label(ref), volume, self.case_labels)
        roi = self._roi(ref, labels)
        return volume, labels, roi, flips_from_liver(volume.data, roi)

    def _roi(self, ref: CaseRef, labels: Labels) -> np.ndarray:
        roi = _is_in(labels, self.roi_labels)
        if not roi.any():
            wanted = ", ".join(map(str, sorted(self.roi_labels)))
            found = ", ".join(map(str, labels.values))
            raise DataError(
                f"{_label(ref)}: empty region of interest (no voxel with label {wanted}; found {found}); "
                f"use the published label file or --exclude {self.card.name}:{ref.id}"
            )
        return roi


def set_folders(root: Path, names: Iterable[str], twins: Iterable[str] = ()) -> list[Path]:
    """Return the folders of a set below ``root`` by any of its names in any case, or ``root`` where there is none."""
    children = [child for child in sorted(root.iterdir()) if child.is_dir()]
    own = [child for child in children if child.name.lower() in set(names)]
    return [*own, *(child for child in children if child.name.lower() in set(twins))] if own else [root]


def listed(
    root: Path, survey: Survey, pattern: str, names: Iterable[str], twins: Iterable[str] = ()
) -> list[Path] | None:
    """Return the files of a set whose names match, in natural order, or None with the problem in ``survey``."""
    if not root.is_dir():
        survey.problems.append(f"{root}: no such folder; give the data root with --data-root or UASBENCH_DATA")
        survey.absent = True
        return None
    try:
        found = [
            sorted(find_files(place, pattern), key=lambda path: natural_key(str(path)))
            for place in set_folders(root, names, twins)
        ]
    except OSError as error:
        survey.problems.append(f"{error.filename}: cannot be listed ({error.strerror}); check the rights of the folder")
        return None
    return [file for files in found for file in files]


def unique(found: Iterable[tuple[str, Path]], survey: Survey) -> dict[str, Path]:
    """Return one file per case id; a case that lies in two places is a problem, and left out."""
    places: dict[str, list[Path]] = defaultdict(list)
    for case, path in found:
        places[case].append(path)
    for case, paths in places.items():
        if len(paths) > 1:
            survey.problems.append(
                f"{case} lies in {len(paths)} places: {', '.join(map(str, paths))}; keep one of them"
            )
    return {case: paths[0] for case, paths in places.items() if len(paths) == 1}


def match_labels(
    images: Mapping[str, Path], labels: Mapping[str, Path], expected: str, survey: Survey
) -> dict[str, tuple[Path, Path]]:
    """Pair images with labels by case id; ``expected`` is the label's name with ``{}`` for the case number."""
    reported = "\n".join(survey.problems)
    for case, path in images.items():
        if case not in labels and f"{case} lies in" not in reported:
            name = expected.format(re.sub(r"\D", "", case))
            survey.problems.append(
                f"{path}: image without label (no {name}); add the label file or move the image out of the data root"
            )
    orphans = [path for case, path in labels.items() if case not in images and f"{case} lies in" not in reported]
    survey.notes += [f"{path}: label without image, ignored" for path in orphans]
    return {case: (path, labels[case]) for case, path in images.items() if case in labels}


def read_spacings(root: Path, dataset: str) -> dict[str, Spacing]:
    """Read ``spacing.csv`` (columns case, z, y, x in mm) of the data root: true spacings of scans with a lost header.

    Raises:
        DataError: missing column, or a value that is not a positive number.
    """
    path = root / SPACING_TABLE
    if not path.is_file():
        return {}
    spacings: dict[str, Spacing] = {}
    for line, row in read_table(path, ("case", "z", "y", "x")):
        try:
            z, y, x = (float(row[axis]) for axis in "zyx")
        except ValueError:
            z = y = x = math.nan
        if not all(0 < value < math.inf for value in (z, y, x)):
            raise DataError(
                f"{path}, line {line}: spacing {row['z']}, {row['y']}, {row['x']} of {row['case']}; "
                "expected three positive numbers in mm"
            )
        spacings[row["case"].removeprefix(f"{dataset}:")] = (z, y, x)
    return spacings


def _label(ref: CaseRef) -> Path:
    if ref.label is None:
        raise DataError(f"{ref.image}: image without label; add the label file")
    return ref.label


def _is_in(labels: Labels, wanted: Collection[int]) -> np.ndarray:
    mask = np.zeros(labels.data.shape, dtype=bool)
    for value in set(labels.values) & set(wanted):
        mask |= labels.data == value
    return mask


def _decision(anatomy: Anatomy) -> Note:
    parts = []
    for axis, wrong, evidence in (
        ("left-right", anatomy.x, "side of the liver"),
        ("front-back", anatomy.y, "spine"),
        ("feet-head", anatomy.z, "lung above the liver"),
    ):
        outcome = "unclear, kept as stored" if wrong is None else ("flipped" if wrong else "kept")
        parts.append(f"{axis} {outcome} ({evidence})")
    return warning(f"orientation chosen by anatomy, assuming the order of the axes: {', '.join(parts)}")
