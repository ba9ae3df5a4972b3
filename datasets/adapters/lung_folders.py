"""Shared by lung sets that keep CT, lung masks and lesion masks in folders of their own, paired by name."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...common.errors import DataError
from ..case import OUTSIDE_SHARE, Case, Note, Truth, warning
from ..dataset import CaseRef
from ..reading.orientation import AxisFlips, flips_from_lungs
from ..reading.volume_io import Labels, Volume, read_labels
from ..roi.lung_roi import MASK_FILE, lung_roi
from ..roi.lungmask_model import weights
from .nifti_pair import NiftiPairDataset, about_lesions
from .surveying import Survey

THICK_MM = 5.0
MIN_LESION_VOXELS = 100
"""Yao et al. 2021 leave out a volume that has fewer."""
LEFT, RIGHT = 1, 2


@dataclass(frozen=True)
class LungFile:
    """Where the lung mask of a case is read from: every value above 0 is lung.

    Attributes:
        labels: values that may occur; None accepts any whole number.
        source: what the region of interest is called in the records.
        sides: True where 1 is the left and 2 the right lung, which is then compared with the image's axes.
    """

    path: Path
    labels: frozenset[int] | None = None
    source: str = MASK_FILE
    sides: bool = False


class LungFoldersDataset(NiftiPairDataset):
    """Base of an adapter with one folder of CT, one of lung masks and one of lesion masks.

    A subclass finds the files of each case (:meth:`pair`) and leaves the lung masks in ``lung_files``, remarks in
    ``case_notes``; a case that has no mask gets its lungs segmented (:func:`~uasbench.datasets.roi.lung_roi.lung_roi`).
    The lesion file is opened by :meth:`load_truth` alone, unless it is the only file that holds the lungs.
    """

    roi_labels: ClassVar[frozenset[int]] = frozenset()
    evidence: ClassVar[tuple[str, str, str]] = ("sides of the lung labels", "spine", "domes of the lungs")

    def __init__(self) -> None:
        super().__init__()
        self.lung_files: dict[str, LungFile] = {}
        self.case_notes: dict[str, list[str]] = {}

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        self.lung_files, self.case_notes = {}, {}
        super().search(root, files, survey)
        network = weights()
        for place, ref in enumerate(survey.refs):
            lung = self.lung_files.get(ref.id)
            # Without a mask the lungs depend on the network's weights, so that these are one of the case's files.
            file = network if lung is None else lung.path
            own = () if file in (None, ref.label) else (file,)
            notes = (*ref.notes, *self.case_notes.get(ref.id, ()))
            survey.refs[place] = replace(ref, extra=tuple(dict.fromkeys((*ref.extra, *own))), notes=notes)

    def load(self, case_id: str) -> Case:
        ref = self._ref(case_id)
        found = self.upright(ref)
        volume, lung, labels = found.volume, self.lung_files.get(case_id), found.labels
        spacing, trust, noted = self._geometry(case_id, found)
        image = np.ascontiguousarray(np.flip(volume.data, found.flips), dtype=np.float32)
        notes = list(volume.notes)
        if volume.grid.spacing_trusted and volume.spacing[0] > THICK_MM:
            notes.append(warning(f"slices {volume.spacing[0]:g} mm apart: resampling along z invents most of them"))
        if repeated := sum(np.array_equal(a, b) for a, b in pairwise(volume.data)):
            trust = replace(trust, spacing_trusted=False)
            text = f"{repeated} of {len(volume.data)} slices repeat the slice below: padded or uneven slices"
            notes.append(warning(f"{text}, the spacing along z is not trusted"))
        about = about_lesions(ref, None if lung is None else lung.path, volume)
        notes += [*noted, *(labels.notes if labels else ()), *found.notes, *about]
        mask = None if labels is None else np.ascontiguousarray(np.flip(labels.data > 0, found.flips))
        source = MASK_FILE if lung is None else lung.source
        roi, source, known = lung_roi(
            case_id, image, spacing, mask, notes=notes, mask_source=source, image_file=ref.image
        )
        return Case(case_id, ref.patient, image, spacing, roi, known, source, trust)

    def organ_labels(self, ref: CaseRef, volume: Volume) -> Labels | None:
        lung = self.lung_files.get(ref.id)
        return None if lung is None else read_labels(lung.path, volume, lung.labels)

    def anatomy(self, ref: CaseRef, volume: Volume, labels: Labels | None) -> AxisFlips | None:
        """Judge the axes by the lungs; left and right by their labels where these name the side."""
        if labels is None:
            return None
        found = flips_from_lungs(volume.data, labels.data > 0)
        return replace(found, x=_is_mirrored(labels.data)) if self.lung_files[ref.id].sides else found

    def _against(self, ref: CaseRef, anatomy: AxisFlips) -> tuple[Note, ...]:
        signs = {
            2: f"the left lung (1) of {self.lung_files[ref.id].path.name} lies on the patient's right",
            1: "the spine lies at the front",
            0: "the domes of the lungs hang down",
        }
        why = "wrong affine, mirrored export or exchanged labels"
        look = f"look at {ref.image.name} before using it"
        return tuple(warning(f"{signs[axis]}: {why}, {look}") for axis in anatomy.flipped)

    def inspect(self, case: Case, truth: Truth | None) -> list[str]:
        """Report lesions that lie outside the lungs by more than 5 % of their voxels; those are never measured."""
        share = 0.0 if truth is None else truth.share_outside(case.roi)
        if share <= OUTSIDE_SHARE:
            return []
        return [f"{100 * share:.0f} % of the lesions lies outside the lung mask ({case.roi_source})"]


def has_few_voxels(path: Path, wanted: Collection[int]) -> bool:
    """Whether a label file has fewer than 100 voxels of the ``wanted`` values; one that cannot be read has enough."""
    try:
        labels = read_labels(path, None)
    except DataError:
        return False
    return int(np.isin(labels.data, sorted(wanted)).sum()) < MIN_LESION_VOXELS


def kind_of_folder(path: Path, kinds: Mapping[str, str]) -> str | None:
    """Return the kind of the nearest folder that is known; ``kinds`` have lower case with letters and digits only."""
    names = ("".join(c for c in parent.name.lower() if c.isalnum()) for parent in path.parents)
    return next((kinds[name] for name in names if name in kinds), None)


def _is_mirrored(labels: np.ndarray) -> bool | None:
    """Whether the left lung lies at smaller x (LPS: x grows to the patient's left); None where one is not labelled."""
    x = np.arange(labels.shape[2], dtype=np.float64)
    left, right = ((labels == value).sum(axis=(0, 1), dtype=np.float64) for value in (LEFT, RIGHT))
    if not (left.any() and right.any()):
        return None
    return bool((left * x).sum() / left.sum() < (right * x).sum() / right.sum())
