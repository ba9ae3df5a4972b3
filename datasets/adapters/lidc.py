"""LIDC-IDRI: lung nodules that up to four readers outlined, from DICOM series and DICOM segmentations."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..case import OUTSIDE_SHARE, Case, Note, Truth, warning
from ..dataset import CaseRef, DatasetCard
from ..reading.dicom_io import Series, order_series, read_series
from ..reading.mhd_io import read_mhd_labels
from ..reading.seg_io import missing, read_segment, tracking_of
from ..reading.side_tables import natural_key, patients_of
from ..reading.volume_io import Volume, read_labels
from ..roi.lung_roi import MASK_FILE, lung_roi
from .laid import MASK_LABELS, MaskFolder
from .lidc_files import PATIENT, Found, read_folders, usable
from .luna16 import LUNA16, LUNGS, is_lung_mask
from .luna16 import MASK_LABELS as LUNA16_LABELS
from .surveying import Survey, SurveyedDataset, unique

READERS, LEAST_READERS, LEAST_VOTES = 4, 3, 2
"""A nodule is lesion if 3 of 4 readers marked it, in the voxels of 2 of them at least: half of the four."""


class LIDC(SurveyedDataset):
    """Chest CT with nodules of 3 mm and more, of the patients with odd numbers; those with even ones are for training.

    Cases are named by their SeriesInstanceUID, as in LUNA16, which holds 888 of these scans, and patients as in the
    collection. A nodule that one or two readers marked is neither lesion nor healthy: its voxels are taken out of the
    region of interest. What the readers called no nodule stands in XML files alone, which are not read.
    """

    card = DatasetCard(
        name="lidc",
        title="LIDC-IDRI: nodules of patients with odd numbers",
        anatomy="lung",
        role="lesion",
        licence="CC BY 3.0 (scans and segmentations; masks of LUNA16 as listed there: CC BY 4.0)",
        citation=(
            "Armato et al., The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI): a "
            "completed reference database of lung nodules on CT scans, Medical Physics 38, 2011, 915-931; "
            "segmentations: Fedorov et al., DICOM re-encoding of volumetrically annotated Lung Imaging Database "
            "Consortium (LIDC) nodules, Medical Physics 47, 2020, 5953-5965, 10.7937/TCIA.2018.h7umfurq"
        ),
        obtain=(
            "NBIA Data Retriever, collections LIDC-IDRI and DICOM-LIDC-IDRI-Nodules, or idc download lidc_idri; into "
            "one folder lidc; pip install pydicom"
        ),
        layout=(
            "LIDC-IDRI-NNNN/<study>/<series>/*.dcm at any depth, CT and one segmentation per nodule and reader; "
            "optionally seg-lungs-LUNA16/<seriesuid>.mhd with .zraw there or in the folder of luna16"
        ),
        roi_source=(
            "rois/lidc > 0, else seg-lungs-LUNA16 labels 3 and 4, else the lungs are segmented; without nodules of one "
            "or two readers"
        ),
        partner="luna16",
        reference="hu-opened",
        truth="voxel",
        finding="tumour",
    )
    folders = ("lidc", "lidc-idri", "lidc_idri", "lidcidri")
    twin_folders = LUNA16.folders
    pattern = r".+\.(dcm|mhd|xml)"

    def __init__(self) -> None:
        super().__init__()
        self._found = Found()
        self._masks: dict[str, Path] = {}
        self._laid = MaskFolder(Path(), {})

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        homes: dict[Path, list[Path]] = defaultdict(list)
        for path in files:
            if path.suffix.lower() == ".dcm" and PATIENT.fullmatch(path.absolute().as_posix()):
                homes[path.parent].append(path)
        if not homes:
            survey.nothing_of(self.card, root)
            return
        self._found = read_folders(homes, survey)
        if (reason := missing()) is not None:
            survey.absent = True
            survey.problems.append(f"{next(iter(homes))}: DICOM of LIDC-IDRI, whose segmentations need more: {reason}")
            return
        chosen = sorted(usable(self._found, survey), key=natural_key)
        if not chosen and not survey.problems:
            survey.absent = True
            survey.problems.append(
                f"{next(iter(homes))}: no scan of a patient with an odd number and all of its segmentations; add the "
                "collection DICOM-LIDC-IDRI-Nodules (XML files of the readers are not read)"
            )
        if xml := sum(path.suffix.lower() == ".xml" for path in files):
            survey.notes.append(f"{xml} XML files are not read: the readers' outlines are taken from DICOM")
        self._masks = unique(((p.stem, p) for p in files if is_lung_mask(p) and p.stem in chosen), survey)
        self._laid = MaskFolder.of(root, self.card.name, chosen)
        patients, warnings = patients_of(root, self.card.name, chosen)
        survey.notes += warnings
        for uid in chosen:
            slices = self._found.slices[uid]
            # A patient of the collection keeps its name, by which its scans in LUNA16 are known too.
            patient = self._found.patients[uid] if patients[uid] == uid else patients[uid]
            survey.refs.append(CaseRef(uid, patient, slices[0], extra=(*slices[1:], *self._others(uid))))

    def load(self, case_id: str) -> Case:
        """Read scan and lungs, without the nodules of one or two readers; no file of another nodule is read for that.

        Raises:
            DataError: as :class:`..dataset.Dataset` and :func:`..reading.seg_io.read_segment`.
        """
        ref = self._ref(case_id)
        series = self._series(case_id)
        volume = read_series(series)
        image, notes = volume.data.astype(np.float32), list(volume.notes)
        mask, source = self._lungs(case_id, volume, notes)
        roi, source, known = lung_roi(
            case_id, image, volume.spacing, mask, notes=notes, mask_source=source, image_file=ref.image
        )
        noted, contested = list(known), np.zeros(volume.data.shape, bool)
        nodules = self._nodules(case_id)
        few = {name: files for name, files in nodules.items() if len(files) < LEAST_READERS}
        for files in few.values():
            contested |= _voted(files, series, 1)
        if lost := int(np.count_nonzero(roi & contested)):
            roi = roi & ~contested
            text = f"{len(few)} nodules of one or two readers, {lost} voxels, lie outside the region of interest"
            noted.append(Note(f"{text} and are not measured"))
        if odd := [name for name, files in nodules.items() if len(files) > READERS]:
            noted.append(warning(f"{len(odd)} nodules have more than {READERS} annotations: a reader counts twice"))
        return Case(case_id, ref.patient, image, volume.spacing, roi, tuple(noted), source, volume.trust)

    def load_truth(self, case_id: str) -> Truth:
        """Read the voxels that two readers marked, at least, of each nodule that three marked."""
        series = self._series(case_id)
        lesion = np.zeros(series.grid.lps_shape, bool)
        for files in self._nodules(case_id).values():
            if len(files) >= LEAST_READERS:
                lesion |= _voted(files, series, LEAST_VOTES)
        return Truth(case_id, lesion, np.asarray(lesion.any(axis=(1, 2))))

    def inspect(self, case: Case, truth: Truth | None) -> list[str]:
        """Report nodules outside the lungs: automatic masks leave out those at the pleura, which are never measured."""
        share = 0.0 if truth is None else truth.share_outside(case.roi)
        if share <= OUTSIDE_SHARE:
            return []
        return [f"{100 * share:.0f} % of the nodules lies outside the lung mask ({case.roi_source})"]

    def _series(self, case_id: str) -> Series:
        self._ref(case_id)
        return order_series(self._found.slices[case_id], case_id)

    def _nodules(self, case_id: str) -> dict[str, list[Path]]:
        """Return the segmentations of a scan by nodule, one of each reader."""
        nodules: dict[str, list[Path]] = defaultdict(list)
        for path in self._found.segments.get(case_id, ()):
            nodules[tracking_of(path)].append(path)
        return nodules

    def _lungs(self, case_id: str, volume: Volume, notes: list[Note]) -> tuple[np.ndarray | None, str]:
        if case_id in self._laid.masks:
            labels, source = read_labels(self._laid.masks[case_id], volume, MASK_LABELS), self._laid.source(case_id)
            mask = labels.data > 0
        elif case_id in self._masks:
            labels, source = read_mhd_labels(self._masks[case_id], volume, LUNA16_LABELS), MASK_FILE
            mask = np.isin(labels.data, list(LUNGS))
        else:
            return None, MASK_FILE
        notes += labels.notes
        return mask, source

    def _others(self, uid: str) -> list[Path]:
        """Return the files of a case beside its slices."""
        masks = [path for path in (self._masks.get(uid),) if path is not None]
        data = [path for mask in masks for path in (mask.with_suffix(".zraw"), mask.with_suffix(".raw"))]
        there = [*masks, *(path for path in data if path.is_file()), *self._laid.files(uid)]
        return [*self._found.segments.get(uid, ()), *there]


def _voted(files: Iterable[Path], series: Series, least: int) -> np.ndarray:
    """Return the voxels of at least so many masks, bool (z, y, x) on LPS axes."""
    columns, rows, depth = series.grid.shape
    votes = np.zeros((depth, rows, columns), np.uint8)
    for path in files:
        for z, plane in read_segment(path, series).items():
            votes[z] += plane
    return np.ascontiguousarray(series.grid.to_lps((votes >= least).T))
