"""CHAOS: abdominal CT of potential liver donors, a healthy liver set; slices are DICOM, livers are PNG."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...common.errors import DataError, brief
from ..case import Case, Truth
from ..dataset import CaseRef, DatasetCard
from ..reading.dicom_io import order_series, read_series
from ..reading.orientation import flips_from_liver
from ..reading.volume_io import Labels
from .btcv import liver_findings
from .nifti_pair import NiftiPairDataset, Upright, match_labels
from .surveying import Survey, by_kind, unique

LIVER = frozenset({1, 255})
"""Liver in the masks: true where they have one bit, 255 or 1 where they have eight. MR masks have 63 and others."""
MEAN_HU, MOST_SD = (40.0, 250.0), 60.0
"""What a liver in the portal-venous phase has; masks in the wrong order cover lung and bowel."""

_SLICE = re.compile(r".*/(\d+)/(?:(dicom_anon)/[^/]+\.dcm|(ground)/[^/]+\.png)", re.IGNORECASE)
_MR = re.compile(r".*/mr/(\d+)/(?:[^/]+/)?(?:dicom_anon|ground)/.*\.(?:dcm|png)", re.IGNORECASE)
_TESTING = re.compile(r"(?:.*[/_])?test_sets/.*", re.IGNORECASE)
_MIRROR = re.compile(
    r".*chaos.*/(?:img/(?P<image>\d+)_image|liver_label/(?P<mask>\d+)_segmentation|ct/(?P<one>\d+)/(?P<name>[^/]+))"
    r"\.nii(?:\.gz)?",
    re.IGNORECASE,
)


class CHAOS(NiftiPairDataset):
    """Portal-venous abdominal CT of potential liver donors; MR scans and the test scans without masks are ignored.

    Slices are grouped by folder, because the anonymised files name no common study, and put in order by their
    positions. Masks are paired with them by the order of their names and of the instance numbers. Copies of the set as
    NIfTI are read, too.
    """

    card = DatasetCard(
        name="chaos",
        title="CHAOS, Combined (CT-MR) Healthy Abdominal Organ Segmentation: the CT scans",
        anatomy="liver",
        role="healthy",
        licence=(
            "CC BY-NC-SA 4.0 as listed by a catalogue, treated as non-commercial; read the terms of the Zenodo record"
        ),
        citation=(
            "Kavur et al., CHAOS Challenge: combined (CT-MR) healthy abdominal organ segmentation, Medical Image "
            "Analysis 69, 2021, 101950. Healthy is a convention here: the organisers state that these potential donors "
            "have no disease of the liver; no label of the files can confirm it"
        ),
        obtain="zenodo.org/records/3431873: unpack CHAOS_Train_Sets.zip into a folder chaos; test scans have no masks",
        layout=(
            "Train_Sets/CT/<id>/DICOM_anon/*.dcm with Train_Sets/CT/<id>/Ground/*.png at any depth; as NIfTI below a "
            "folder of that name img/<id>_image.nii.gz with liver_label/<id>_segmentation.nii.gz, or "
            "CT/<id>/<name>.nii.gz with label.nii.gz"
        ),
        roi_source="the liver masks of the set (Ground)",
        truth="none",
    )
    folders = ("chaos", "03_chaos", "chaos_train_sets", "chaos_test_sets")
    pattern = r".+\.(dcm|png|nii|nii\.gz)"
    case_labels = frozenset({0, *LIVER})
    roi_labels = LIVER
    find_flips = staticmethod(flips_from_liver)

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[Path, tuple[Path, ...]] = {}

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        super().search(root, files, survey)
        survey.refs = [replace(ref, extra=(*ref.extra, *self._others(ref))) for ref in survey.refs]

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair scans with masks by folder or name; a folder of slices, or of masks, stands for its first file."""
        found = by_kind(files, _identify)
        if found["mr"]:
            survey.notes.append(f"{len({case for case, _ in found['mr']})} MR folders are ignored")
        self._files = {}
        labels = unique((*found["mask"], *self._grouped(found["ground"])), survey)
        images = [*found["image"], *self._grouped(found["dicom_anon"])]
        testing = [item for item in images if item[0] not in labels and _TESTING.fullmatch(item[1].as_posix())]
        if testing:
            survey.notes.append(f"{len(testing)} test scans without public masks are ignored")
        kept = unique((item for item in images if item not in testing), survey)
        return match_labels(kept, labels, "{}/Ground/*.png", survey, ct="{}/DICOM_anon/*.dcm")

    def load(self, case_id: str) -> Case:
        """Read scan and liver, and refuse a liver whose Hounsfield units are those of other organs.

        Raises:
            DataError: as :class:`..dataset.Dataset`; counts, sizes or values of masks that do not fit, slices that are
                not evenly spaced or numbered in no order, masks that lie beside the liver.
        """
        case, ref = super().load(case_id), self._ref(case_id)
        (mean, sd), turned = _statistics(case.image[case.roi]), _statistics(case.image[case.roi[::-1]])
        if not _is_liver(mean, sd):
            other = f" (in reverse order mean {turned[0]:.0f}, sd {turned[1]:.0f})" if _is_liver(*turned) else ""
            raise DataError(
                f"{self._place(ref)}: mean {mean:.0f} HU, sd {sd:.0f} under the liver masks, expected {MEAN_HU[0]:g} "
                f"to {MEAN_HU[1]:g} and below {MOST_SD:g}: mask order reversed?{other} Use the published files, or "
                f"leave it out with --exclude {self.card.name}:{case_id}"
            )
        return case

    def upright(self, ref: CaseRef) -> Upright:
        """Read a scan and its liver masks, both on LPS axes by the slice headers."""
        if ref.image not in self._files:
            return super().upright(ref)
        assert ref.label is not None
        slices, masks = self._files[ref.image], self._files[ref.label]
        leave_out = f"or leave it out with --exclude {self.card.name}:{ref.id}"
        if len(slices) != len(masks):
            raise DataError(
                f"{self._place(ref)}: {len(slices)} DICOM slices, but {len(masks)} masks in {ref.label.parent.name}, "
                f"which pair by their order; unpack the case again, {leave_out}"
            )
        series = order_series(slices, one_scan=True)
        if series.numbered_from_head is None:
            numbers = ", ".join(str(one.number) for one in series.slices[:5])
            raise DataError(
                f"{ref.image.parent}: instance numbers are missing, or follow no order from feet to head ({numbers}, "
                f"...), so that masks cannot be paired; unpack the case again, {leave_out}"
            )
        stored = _read_masks(masks, series.slices[0].size)
        if series.numbered_from_head:
            stored = stored[::-1]
        volume = read_series(series)
        data = np.ascontiguousarray(volume.grid.to_lps(stored.T), np.uint8)
        return Upright(volume, Labels(data, tuple(map(int, np.unique(data)))), (), volume.trust)

    def inspect(self, case: Case, truth: Truth | None) -> list[str]:
        """Report dark blobs in a liver that passes for healthy."""
        return liver_findings(case)

    def _grouped(self, found: Iterable[tuple[str, Path]]) -> list[tuple[str, Path]]:
        """Return each folder of a case by its first file, and remember the others."""
        folders: dict[tuple[str, Path], list[Path]] = defaultdict(list)
        for case, path in found:
            folders[case, path.parent].append(path)
        self._files |= {files[0]: tuple(files) for files in folders.values()}
        return [(case, files[0]) for (case, _), files in folders.items()]

    def _place(self, ref: CaseRef) -> Path:
        """Return the folder that holds slices and masks of a case, or its NIfTI file."""
        return ref.image.parent.parent if ref.image in self._files else ref.image

    def _others(self, ref: CaseRef) -> list[Path]:
        """Return the files of a case beside the first ones of its folders."""
        return [path for first in (ref.image, ref.label) for path in self._files.get(first or Path(), ())[1:]]


def _identify(path: Path) -> tuple[str, str] | None:
    text = path.absolute().as_posix()
    if match := _MR.fullmatch(text):
        return "mr", match[1]
    if match := _SLICE.fullmatch(text):
        return (match[2] or match[3]).lower(), _case(match[1])
    if (match := _MIRROR.fullmatch(text)) is None:
        return None
    if number := match["one"]:
        return "mask" if match["name"].lower() == "label" else "image", _case(number)
    return ("image", _case(match["image"])) if match["image"] else ("mask", _case(match["mask"]))


def _case(number: str) -> str:
    return f"chaos_{int(number)}"


def _statistics(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


def _is_liver(mean: float, sd: float) -> bool:
    return MEAN_HU[0] <= mean <= MEAN_HU[1] and sd < MOST_SD


def _read_masks(paths: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """Read PNG masks in the given order: uint8 0 or 1, shape (slices, rows, columns); ``size`` is columns, rows."""
    planes = [_read_mask(path, size) for path in paths]
    values = sorted({int(value) for plane in planes for value in np.unique(plane)})
    if len(set(values) - {0}) > 1 or not set(values) <= {0, *LIVER}:
        raise DataError(
            f"{paths[0].parent}: mask values {', '.join(map(str, values[:8]))}, expected 0 and one of 1 and 255 (63, "
            "126, 189 and 252 are organs of an MR scan); use the published masks of the CT"
        )
    return (np.stack(planes) > 0).astype(np.uint8)


def _read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode, shape, plane = image.mode, image.size, np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as PNG ({brief(error, 80)}); copy or download it again") from error
    if mode not in ("1", "L"):
        raise DataError(
            f"{path}: a picture of mode {mode}, expected one grey channel of 1 or 8 bit; use the published masks"
        )
    if shape != size:
        raise DataError(
            f"{path}: {shape[0]} x {shape[1]} pixels, but the DICOM slices have {size[0]} x {size[1]}; use the "
            "published masks"
        )
    return plane
