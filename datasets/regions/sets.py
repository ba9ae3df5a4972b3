"""The scans and the truth of a lesion set, with the organ eroded, dilated, or predicted from the scan."""

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

import numpy as np

from ...common.errors import DataError
from ..adapters.coronacases import Coronacases
from ..adapters.laid import MASK_LABELS, ORGAN_LABELS, MaskFolder
from ..adapters.lits import LiTS
from ..adapters.nifti_pair import NiftiPairDataset
from ..adapters.surveying import ROIS
from ..case import Case, Note, Truth, warning
from ..dataset import CaseRef, Dataset, DatasetCard
from ..roi.lung_roi import lung_roi
from ..roi.morphology import dilate, erode

RADIUS_MM = 5.0
"""By how much an organ is eroded or dilated; this benchmark's choice."""


def region_card(scans: DatasetCard, region: str, source: str) -> DatasetCard:
    """Return the card of a lesion set with another region of interest, whose name ends in ``region``."""
    return replace(
        scans,
        name=f"{scans.name}-{region}",
        title=f"{scans.title}: {region} region of interest",
        roi_source=source,
        wraps=scans.name,
    )


class OtherRegion(Dataset):
    """A lesion set whose cases differ in their region of interest alone.

    Image, spacing, patients and truth are those of ``whole``; what of a lesion lies outside the other region is not
    measured. A set for another organ names its lesion set and has a :func:`region_card`.
    """

    whole: ClassVar[type[Dataset]]

    def __init__(self) -> None:
        self._scans = self.whole()
        self.notes: tuple[str, ...] = ()

    def discover(self, root: Path) -> list[CaseRef]:
        """List the cases as the whole set does."""
        refs = self._scans.discover(root)
        self.notes = tuple(getattr(self._scans, "notes", ()))
        return refs

    def load(self, case_id: str) -> Case:
        """Read a case and change its region of interest.

        Raises:
            DataError: as the whole set, or nothing is left of the region of interest.
        """
        case = self.changed(self._scans.load(case_id))
        if not case.roi.any():
            raise DataError(
                f"{self.card.name}: nothing is left of the region of interest of {case_id} ({case.roi_source}); "
                f"leave it out with --exclude {self.card.name}:{case_id}"
            )
        return case

    def load_truth(self, case_id: str) -> Truth:
        """Read the truth of the whole set."""
        return self._scans.load_truth(case_id)

    @abstractmethod
    def changed(self, case: Case) -> Case:
        """Return a case with its other region of interest, and with where that comes from as ``roi_source``."""


class Eroded(OtherRegion):
    """Organs that a ball of 5 mm was taken off all around."""

    def changed(self, case: Case) -> Case:
        return _resized(case, erode(case.roi, RADIUS_MM, case.spacing), f"eroded by {RADIUS_MM:g} mm")


class Dilated(OtherRegion):
    """Organs with everything within 5 mm of them."""

    def changed(self, case: Case) -> Case:
        return _resized(case, dilate(case.roi, RADIUS_MM, case.spacing), f"dilated by {RADIUS_MM:g} mm")


class SegmentedLungs(OtherRegion):
    """Lungs segmented from the scan alone, as of a case without mask (:func:`..roi.lung_roi.lung_roi`)."""

    def changed(self, case: Case) -> Case:
        roi, source, _ = lung_roi(case.id, case.image, case.spacing)
        note = Note(f"lungs by {source} from the scan alone")
        return replace(case, roi=roi, roi_source=source, notes=(*case.notes, note))


class LaidMasks(OtherRegion):
    """Organs as masks show them that a user lays beside the data: ``DATA/rois/<set>/<case id>.nii.gz``.

    A :class:`..adapters.laid.MaskFolder`. A mask is placed like any other label file, by the whole
    set, which is a :class:`..adapters.nifti_pair.NiftiPairDataset`; ``tools`` tells where masks come from.
    """

    tools: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._laid = MaskFolder(Path(), {})

    def discover(self, root: Path) -> list[CaseRef]:
        """List the cases of the whole set, each with its mask as a further file.

        Raises:
            DataError: as the whole set, or there is no mask at all.
        """
        refs, of = super().discover(root), self.whole.card.name
        self._laid = MaskFolder.of(root, of, [ref.id for ref in refs])
        if not self._laid.masks:
            raise DataError(
                self._laid.missing(self.card.name, f"predicted {self.card.anatomy}", refs[0].id, self.tools)
            )
        return [replace(ref, extra=(*ref.extra, *self._laid.files(ref.id))) for ref in refs]

    def changed(self, case: Case) -> Case:
        path, name = self._laid.masks.get(case.id), self.card.name
        if path is None:
            raise DataError(
                f"{self._laid.folder / case.id}.nii.gz: no predicted mask; add it, or leave the case out with "
                f"--exclude {name}:{case.id}"
            )
        roi, notes = cast(NiftiPairDataset, self._scans).read_mask(case.id, path, MASK_LABELS, ORGAN_LABELS)
        return replace(case, roi=roi, roi_source=self._laid.source(case.id), notes=(*case.notes, *notes))


def _resized(case: Case, roi: np.ndarray, how: str) -> Case:
    notes = list(case.notes)
    if not case.trust.spacing_trusted:
        notes.append(warning(f"the region of interest is {how} of a spacing that is not trusted"))
    if np.array_equal(roi, case.roi):
        notes.append(warning(f"the region of interest is {how} and stays as it is: the voxels are too large"))
    return replace(case, roi=roi, roi_source=f"{case.roi_source or 'annotated organ'}, {how}", notes=tuple(notes))


class LiTSEroded(Eroded):
    """LiTS with eroded livers."""

    card = region_card(LiTS.card, "eroded", f"{LiTS.card.roi_source}; eroded by {RADIUS_MM:g} mm")
    whole = LiTS


class LiTSDilated(Dilated):
    """LiTS with dilated livers."""

    card = region_card(LiTS.card, "dilated", f"{LiTS.card.roi_source}; dilated by {RADIUS_MM:g} mm")
    whole = LiTS


class LiTSPredicted(LaidMasks):
    """LiTS with livers as a segmentation method sees them."""

    card = region_card(LiTS.card, "predicted", f"masks in {ROIS}/lits, not the annotation")
    whole = LiTS
    tools = (
        "TotalSegmentator (--roi_subset liver) or an nnU-Net makes them; one that was trained on LiTS knows these scans"
    )


class CoronacasesEroded(Eroded):
    """Coronacases with eroded lungs."""

    card = region_card(Coronacases.card, "eroded", f"{Coronacases.card.roi_source}; eroded by {RADIUS_MM:g} mm")
    whole = Coronacases


class CoronacasesDilated(Dilated):
    """Coronacases with dilated lungs."""

    card = region_card(Coronacases.card, "dilated", f"{Coronacases.card.roi_source}; dilated by {RADIUS_MM:g} mm")
    whole = Coronacases


class CoronacasesPredicted(SegmentedLungs):
    """Coronacases with lungs segmented from the scans."""

    card = region_card(Coronacases.card, "predicted", "segmented from the scan, not the annotation")
    whole = Coronacases
