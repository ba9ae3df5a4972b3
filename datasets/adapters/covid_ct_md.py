"""COVID-CT-MD: chest CT of COVID-19 and community-acquired pneumonia with labels of whole slices, no masks."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...common.errors import DataError, did_you_mean
from ..case import Case, Truth, warning
from ..dataset import CaseRef, DatasetCard
from ..reading.dicom_io import order_series, read_series
from ..reading.pairing import header_warnings
from ..reading.side_tables import natural_key, patients_of
from ..reading.slice_labels import SliceLabels, read_published, read_slice_labels
from ..reading.volume_io import Volume, read_grid, read_labels, read_volume
from ..roi.lung_roi import lung_roi
from .surveying import Survey, SurveyedDataset, case_name, set_folders, unique

MASK_LABELS = frozenset({0, 1, 2})
"""1 is the left lung, 2 the right one."""

_MASK_FOLDER = "lung_mask"
_TABLE = "slice_labels.csv"
_Named = tuple[str, Path]
_ARRAY = re.compile(r"slice[-_]level[-_]labels(-updated-\d+)?\.npy", re.IGNORECASE)


class CovidCTMD(SurveyedDataset):
    """Chest CT whose slices are labelled with or without infection; there are no lesion voxels."""

    card = DatasetCard(
        name="covid-ct-md",
        title="COVID-CT-MD, COVID-19 computed tomography scans for machine and deep learning",
        anatomy="lung",
        role="lesion",
        licence="not stated in the authors' repository; read the terms of the figshare record before use",
        citation=(
            "Afshar et al., COVID-CT-MD, COVID-19 computed tomography scan dataset applicable in machine learning and "
            "deep learning, Scientific Data 8, 2021, 121. Slice labels exist for 54 COVID-19 and 25 pneumonia patients "
            "and are one reading: slices labelled 0 may still show disease"
        ),
        obtain="figshare.com/s/c20215f3d42c98f09ad0: unpack the folders of cases, Index.csv and the slice-level labels",
        layout=(
            "one folder of .dcm per patient, e.g. 'COVID-19 Cases/P001/*.dcm', with Index.csv and "
            "Slice-level-labels[-updated-1].npy; or <case>.nii.gz; either with slice_labels.csv (case,slice_index,"
            "label) and optionally lung_mask/<case>.nii.gz"
        ),
        roi_source="lung_mask file where there is one, else the lungs are segmented",
        partner="luna16",
        reference="hu-opened",
        truth="slice",
        finding="pneumonia",
    )
    folders = ("covid-ct-md", "covid_ct_md", "covidctmd", "covid-ctmd")
    pattern = r".+\.nii(\.gz)?|.+\.dcm|slice_labels\.csv|index\.csv|" + _ARRAY.pattern

    def __init__(self) -> None:
        super().__init__()
        self._labels = SliceLabels((), {})
        self._series: dict[str, tuple[Path, ...]] = {}

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        places = set_folders(root, self.folders)
        if places == [root]:
            # A data root may hold other sets too: only what lies at and below slice labels counts.
            homes = {path.parent for path in files if path.name.lower() == _TABLE or _ARRAY.fullmatch(path.name)}
            files = [path for path in files if homes & set(path.parents)]
        tables, images, masks, series = _sort(files)
        if not tables and (places == [root] or not images):
            survey.nothing_of(self.card, root)
            return
        images, masks = unique(images, survey), unique(masks, survey)
        self._labels = _read_tables(tables, places[0], survey)
        cases = self._labelled(self._labels, images, survey)
        patients, warnings = patients_of(root, self.card.name, cases)
        survey.notes += warnings
        self._series = {case: series[images[case]] for case in cases if images[case] in series}
        for case in cases:
            extra = (*self._series.get(case, ())[1:], *self._labels.paths)
            survey.refs.append(CaseRef(case, patients[case], images[case], masks.get(case), extra))

    def load(self, case_id: str) -> Case:
        """Read scan and lungs; slice labels are not opened."""
        ref = self._ref(case_id)
        volume = self._volume(ref)
        image, notes, mask = volume.data.astype(np.float32), list(volume.notes), None
        if ref.label is not None:
            # The mask of a DICOM series has an order of its own, which its header names unless it names two.
            grid = read_grid(ref.label)
            own = case_id in self._series and grid.rival is None
            labels = read_labels(ref.label, None if own else volume, MASK_LABELS)
            mask = labels.data > 0
            notes += [*labels.notes, *(header_warnings(grid, ref.label.name) if own else ())]
        roi, source, known = lung_roi(
            case_id, image, volume.spacing, mask, notes=notes, image_file=ref.image, mask_file=ref.label
        )
        return Case(case_id, ref.patient, image, volume.spacing, roi, known, source, volume.trust)

    def load_truth(self, case_id: str) -> Truth:
        """Read the slice labels, bool, shape (z,), from feet to head; there is no lesion mask."""
        ref, labels = self._ref(case_id), self._labels
        if case_id in self._series:
            count, from_head = len(order_series(self._series[case_id]).slices), False
        else:
            count, from_head = _stored_slices(ref.image, labels)
        of_case = labels.of(case_id, count)
        if labels.from_head or from_head:
            of_case = of_case[::-1]
        return Truth(case_id, None, np.ascontiguousarray(of_case))

    def inspect(self, case: Case, truth: Truth | None) -> list[str]:
        """Report labelled slices that the lungs do not reach: nothing can be found there."""
        if truth is None or truth.slice_labels is None:
            return []
        outside = int((truth.slice_labels & ~case.roi.any(axis=(1, 2))).sum())
        return [f"{outside} slices labelled with infection lie outside the lung mask"] if outside else []

    def _volume(self, ref: CaseRef) -> Volume:
        files = self._series.get(ref.id)
        if files is None:
            return read_volume(ref.image)
        series = order_series(files)
        volume = read_series(series)
        if self._labels.from_head and series.numbered_from_head is not True:
            note = warning(
                "instance numbers do not run from head to feet as in the labelled scans; the labels are counted from "
                "the head by slice position: look at a labelled slice"
            )
            return replace(volume, notes=(*volume.notes, note))
        return volume

    def _labelled(self, labels: SliceLabels, images: dict[str, Path], survey: Survey) -> list[str]:
        """Return the cases with labels; what has only one of the two is a note or a problem."""
        cases = sorted((case for case in images if case in labels.cases), key=natural_key)
        bare = sorted(set(images) - set(cases), key=natural_key)
        if bare:
            survey.notes.append(f"{len(bare)} scans without slice labels are ignored (first: {bare[0]})")
        if unknown := sorted(set(labels.cases) - set(images)):
            text = f"{labels.paths[0]}: labels of {', '.join(unknown[:5])}, {len(unknown)} in all, but no such scan"
            if labels.padded:
                survey.notes.append(text)
            else:
                hint = did_you_mean(unknown[0], images)
                survey.problems.append(f"{text}{hint}; add the scan or remove its rows")
        if not cases:
            survey.problems.append(f"{labels.paths[0]}: none of the {len(images)} scans found has slice labels")
        return cases


def _sort(files: Iterable[Path]) -> tuple[list[Path], list[_Named], list[_Named], dict[Path, tuple[Path, ...]]]:
    """Return tables, images, masks and series; a folder of DICOM slices counts as an image by its first slice."""
    tables, images, masks = [], [], []
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        name = path.name.lower()
        if name.endswith(".dcm"):
            folders[path.parent].append(path)
        elif name.endswith((".nii", ".nii.gz")):
            (masks if path.parent.name.lower() == _MASK_FOLDER else images).append((case_name(path), path))
        else:
            tables.append(path)
    series = {slices[0]: tuple(slices) for slices in folders.values()}
    images += [(first.parent.name, first) for first in series]
    return tables, images, masks, series


def _read_tables(tables: Sequence[Path], place: Path, survey: Survey) -> SliceLabels:
    plain = [path for path in tables if path.name.lower() == _TABLE]
    index = [path for path in tables if path.name.lower() == "index.csv"]
    arrays = sorted((path for path in tables if _ARRAY.fullmatch(path.name)), key=lambda p: natural_key(p.name))
    for paths in (plain, index):
        if len(paths) > 1:
            raise DataError(f"{paths[0].name} lies in {len(paths)} places: {', '.join(map(str, paths))}; keep one")
    if plain:
        if arrays:
            survey.notes.append(f"{plain[0].name} is used, {arrays[0].name} is ignored")
        return read_slice_labels(plain[0])
    if arrays and index:
        updated = [path for path in arrays if "updated" in path.name.lower()]
        chosen = (updated or arrays)[-1]
        if len(arrays) > 1:
            survey.notes.append(f"{chosen.name} is used, the other slice labels are ignored")
        return read_published(index[0], chosen)
    raise DataError(
        f"{place}: no slice labels; put Slice-level-labels-updated-1.npy with Index.csv of the same release beside the "
        f"folders of cases, or write {_TABLE} with the columns case,slice_index,label (slice 0 at the feet)"
    )


def _stored_slices(path: Path, labels: SliceLabels) -> tuple[int, bool]:
    """Return how many slices the last NIfTI axis has, and whether it runs from head to feet."""
    from nibabel import orientations

    grid = read_grid(path)
    axis, sign = orientations.io_orientation(grid.affine)[2]
    if int(axis) != 2:
        raise DataError(
            f"{path}: its last axis does not run along the body ({grid.codes}), so slice labels cannot be placed; "
            "store the scan in axial slices"
        )
    if labels.from_head and not grid.trusted:
        raise DataError(
            f"{path}: lost header, so labels counted from the head cannot be placed; convert the scan again, or write "
            f"{_TABLE} with its stored slice indices"
        )
    return grid.shape[2], bool(sign < 0)
