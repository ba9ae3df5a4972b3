"""Shared by sets that store a CT and one label file per case as NIfTI."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from ...common.errors import DataError
from ..case import Case, Note, Spacing, Trust, Truth, warning
from ..dataset import CaseRef
from ..reading.orientation import AxisFlips
from ..reading.pairing import placement
from ..reading.side_tables import natural_key, patients_of, read_table
from ..reading.volume_io import Labels, Volume, read_grid, read_labels, read_volume
from .surveying import Survey, SurveyedDataset

SPACING_TABLE = "spacing.csv"


@dataclass(frozen=True, eq=False)
class Upright:
    """A scan and the labels of its organ on the same axes, of which ``flips`` (z, y, x) are still to be turned round.

    Attributes:
        labels: None where no file labels the organ.
        notes: what was decided about the axes, or speaks against them.
    """

    volume: Volume
    labels: Labels | None
    flips: tuple[int, ...]
    trust: Trust
    notes: tuple[Note, ...] = ()


class NiftiPairDataset(SurveyedDataset):
    """Base of an adapter whose cases are a CT file and a label file.

    A subclass names its folders, its labels and how files pair (:meth:`pair`). ``case_labels`` are all values that may
    occur in a label file, ``roi_labels`` make the region of interest, ``lesion_labels`` the truth. Where a header was
    lost, the axes are turned by anatomy if :meth:`find_flips` knows it, else they stay as they are stored; ``evidence``
    names what it looks at for x, y and z.
    """

    case_labels: ClassVar[frozenset[int]]
    roi_labels: ClassVar[frozenset[int]]
    lesion_labels: ClassVar[frozenset[int]] = frozenset()
    evidence: ClassVar[tuple[str, str, str]] = ("side of the liver", "spine", "lung above the liver")

    def __init__(self) -> None:
        super().__init__()
        self._spacing: dict[str, Spacing] = {}

    @abstractmethod
    def pair(self, files: list[Path], survey: Survey) -> Mapping[str, tuple[Path, Path | None]]:
        """Return image and label, where it has one, by case id; what doesn't pair goes to ``survey``."""

    @staticmethod
    def find_flips(image: np.ndarray, roi: np.ndarray, /) -> AxisFlips | None:
        """Return which axes (z, y, x) of a scan in HU are flipped by its anatomy, None where no rule is known."""
        del image, roi

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        pairs = self.pair(files, survey)
        if not pairs and not survey.problems:
            survey.nothing_of(self.card, root)
        ids = sorted(pairs, key=natural_key)
        patients, warnings = patients_of(root, self.card.name, ids)
        self._spacing = read_spacings(root, self.card.name)
        survey.notes += warnings
        # A case named in the side table carries it as one of its files, so that a changed table is a changed case.
        tables = dict.fromkeys(self._spacing, (root / SPACING_TABLE,))
        survey.refs = [CaseRef(case, patients[case], *pairs[case], extra=tables.get(case, ())) for case in ids]

    def load(self, case_id: str) -> Case:
        ref = self._ref(case_id)
        found = self.upright(ref)
        labels = self._with_organ(ref, found.labels)
        spacing, trust, noted = self._geometry(case_id, found)
        about = about_lesions(ref, self.organ_file(ref), found.volume)
        return Case(
            case_id,
            ref.patient,
            np.ascontiguousarray(np.flip(found.volume.data, found.flips), dtype=np.float32),
            spacing,
            np.ascontiguousarray(np.flip(_is_in(labels, self.roi_labels), found.flips)),
            (*found.volume.notes, *labels.notes, *about, *found.notes, *noted),
            trust=trust,
        )

    def load_truth(self, case_id: str) -> Truth:
        """Read the lesion mask on the grid of :meth:`load`; a healthy set has none."""
        expected, wanted = self.lesion_values(case_id)
        if not wanted:
            return Truth(case_id)
        lesion, _ = self.read_mask(case_id, _label(self._ref(case_id)), expected, wanted)
        return Truth(case_id, lesion, np.asarray(lesion.any(axis=(1, 2))))

    def read_mask(
        self, case_id: str, path: Path, expected: Collection[int], wanted: Collection[int]
    ) -> tuple[np.ndarray, tuple[Note, ...]]:
        """Read where a label file of a case has one of the ``wanted`` values, bool on the grid of :meth:`load`.

        The notes say how it was placed. ``expected`` are all values that may occur.

        Raises:
            DataError: as :func:`..reading.volume_io.read_labels`.
        """
        ref, flips = self._ref(case_id), ()
        grid = read_grid(ref.image)
        if grid.trusted and not placement(read_grid(path), grid, path.name).contested:
            labels = read_labels(path, grid, expected)
        else:
            found = self.upright(ref)
            flips, own = found.flips, found.labels if self.roi_labels and path == self.organ_file(ref) else None
            labels = read_labels(path, found.volume, expected) if own is None else own
        return np.ascontiguousarray(np.flip(_is_in(labels, wanted), flips)), labels.notes

    def upright(self, ref: CaseRef) -> Upright:
        """Read a scan and the file that labels its organ on the axes that the header names, or anatomy where it cannot.

        Raises:
            DataError: sform and qform name different axes and anatomy speaks for neither of them alone.
        """
        volume = read_volume(ref.image)
        labels = self.organ_labels(ref, volume)
        anatomy = self.anatomy(ref, volume, labels)
        if volume.grid.rival is not None:
            return self._decided(ref, volume, labels, anatomy)
        if volume.grid.trusted or anatomy is None:
            against = self._against(ref, anatomy) if anatomy and volume.grid.trusted else ()
            return Upright(volume, labels, (), volume.trust, against)
        trust = replace(volume.trust, orientation_source="anatomy")
        return Upright(volume, labels, anatomy.flipped, trust, (self._turned(anatomy),))

    def organ_file(self, ref: CaseRef) -> Path:
        """Return the file that labels the organ, by default the label file."""
        return _label(ref)

    def organ_labels(self, ref: CaseRef, volume: Volume) -> Labels | None:
        """Read the labels that show the organ, on the axes of ``volume``; None where a case has no such file."""
        return read_labels(self.organ_file(ref), volume, self.lesion_values(ref.id)[0])

    def anatomy(self, ref: CaseRef, volume: Volume, labels: Labels | None) -> AxisFlips | None:
        """Return which axes of a scan look flipped, None where no rule is known or no organ is labelled."""
        del ref
        return None if labels is None else self.find_flips(volume.data, _is_in(labels, self.roi_labels))

    def _decided(self, ref: CaseRef, volume: Volume, labels: Labels | None, anatomy: AxisFlips | None) -> Upright:
        other = volume.on(volume.grid.other())
        others = self.organ_labels(ref, other)
        again = self.anatomy(ref, other, others)
        sound = [found is not None and not found.flipped for found in (anatomy, again)]
        names = f"{volume.grid.codes} (sform) or {other.grid.codes} (qform)"
        if sound[0] == sound[1]:
            raise DataError(
                f"{ref.image}: its header names the axes {names}, and the anatomy does not tell which; write one "
                f"orientation to the file, or leave it out with --exclude {self.card.name}:{ref.id}"
            )
        chosen = (volume, labels) if sound[0] else (other, others)
        trust = replace(volume.trust, orientation_source="anatomy")
        text = f"axes {chosen[0].grid.codes} of {names} chosen by anatomy"
        return Upright(*chosen, (), trust, (warning(text),))

    def _turned(self, anatomy: AxisFlips) -> Note:
        parts = []
        axes, wrongs = ("left-right", "front-back", "feet-head"), (anatomy.x, anatomy.y, anatomy.z)
        for axis, wrong, evidence in zip(axes, wrongs, self.evidence, strict=True):
            outcome = "unclear, kept as stored" if wrong is None else ("flipped" if wrong else "kept")
            parts.append(f"{axis} {outcome} ({evidence})")
        return warning(f"orientation chosen by anatomy, assuming the order of the axes: {', '.join(parts)}")

    def _against(self, ref: CaseRef, anatomy: AxisFlips) -> tuple[Note, ...]:
        """Return a warning where anatomy contradicts an intact header."""
        if not anatomy.x:
            return ()
        wrong = "the liver lies on the patient's left although the header is intact"
        why = f"wrong affine, mirrored export or situs inversus; look at {ref.image.name} before using it"
        return (warning(f"{wrong}: {why}"),)

    def lesion_values(self, case_id: str) -> tuple[frozenset[int], frozenset[int]]:
        """Return the labels that may occur in the label file of a case, and those that are lesion."""
        del case_id
        return self.case_labels, self.lesion_labels

    def _geometry(self, case_id: str, found: Upright) -> tuple[Spacing, Trust, list[Note]]:
        """Return the voxel size of a case, what to think of it, and a note where the side table gives it."""
        if case_id not in self._spacing:
            return found.volume.spacing, found.trust, []
        spacing = self._spacing[case_id]
        trust = replace(found.trust, spacing_source="table", spacing_trusted=True)
        return spacing, trust, [Note(f"spacing {' x '.join(f'{s:g}' for s in spacing)} mm (z, y, x) from spacing.csv")]

    def _with_organ(self, ref: CaseRef, labels: Labels | None) -> Labels:
        if labels is None or not set(labels.values) & self.roi_labels:
            wanted = ", ".join(map(str, sorted(self.roi_labels)))
            found = ", ".join(map(str, labels.values)) if labels else "none"
            raise DataError(
                f"{self.organ_file(ref)}: empty region of interest (no voxel with label {wanted}; found {found}); "
                f"use the published label file or --exclude {self.card.name}:{ref.id}"
            )
        return labels


def match_labels(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    expected: str,
    survey: Survey,
    others: Mapping[str, Path] = MappingProxyType({}),
    ct: str = "",
) -> dict[str, tuple[Path, Path]]:
    """Pair images with labels by case id; ``expected`` is the label's name with ``{}`` for the digits of the case.

    A label, or one of ``others``, without its CT is a note. Where no CT was found at all it is a problem of a set whose
    folders tell its files from others'; such a set gives the name of the CT, ``ct``, in the same way.
    """
    for case, path in images.items():
        if case not in labels:
            name = expected.format(re.sub(r"\D", "", case))
            survey.problems.append(
                f"{path}: image without label (no {name}); add the label file or move the image out of the data root"
            )
    masks = {**others, **labels}
    for case in sorted(set(masks) - set(images), key=natural_key):
        number = re.sub(r"\D", "", case)
        text = f"{masks[case]}: mask of {case} without its CT" + (f" (no {ct.format(number)})" if ct else "")
        if images or not ct:
            survey.notes.append(f"{text}, ignored")
        else:
            survey.problems.append(f"{text}: the case is incomplete; add the CT as .nii or .nii.gz")
    return {case: (path, labels[case]) for case, path in images.items() if case in labels}


def about_lesions(ref: CaseRef, organ: Path | None, volume: Volume) -> tuple[Note, ...]:
    """Return what the header alone of a lesion file says of its place, where another file shows the organ.

    Its voxels are opened by ``load_truth`` alone.
    """
    if ref.label is None or ref.label == organ:
        return ()
    return placement(read_grid(ref.label), volume.grid, ref.label.name).said


def read_spacings(root: Path, dataset: str) -> dict[str, Spacing]:
    """Read ``spacing.csv`` (columns case, z, y, x in mm) of the data root: true spacings where headers were lost."""
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
