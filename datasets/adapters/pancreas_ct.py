"""NIH Pancreas-CT: abdominal CT of people without a lesion of the pancreas; slices are DICOM, labels NIfTI."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...common.errors import DataError, several
from ..case import Note
from ..dataset import CaseRef, DatasetCard
from ..reading.dicom_io import order_series, read_series
from ..reading.side_tables import natural_key
from ..reading.volume_io import Labels, Volume, read_grid, read_labels, read_volume
from .nifti_pair import NiftiPairDataset, Upright, match_labels
from .surveying import Survey, by_kind, unique

WITHDRAWN = frozenset({"PANCREAS_0025", "PANCREAS_0070"})
LAST = 82
MOST_SD, CLEAR = 60.0, 1.25
"""Standard deviation in HU that a pancreas may have, and by what factor that under any other placement is larger."""

_SLICES = re.compile(r".*/PANCREAS_(\d{4})/(?:[^/]+/)*[^/]+\.dcm", re.IGNORECASE)
_LABEL = re.compile(r"label(\d{4})\.nii(?:\.gz)?", re.IGNORECASE)
_CONVERTED = re.compile(r"PANCREAS_(\d{4})\.nii(?:\.gz)?", re.IGNORECASE)
_TURNS = {(): "as the slices", (1,): "from the back", (0,): "from the head", (0, 1): "from the back and the head"}


@dataclass(frozen=True)
class Placed:
    """Labels under one of the four ways of placing them, with mean and deviation of the HU beneath."""

    turn: tuple[int, ...]
    mask: np.ndarray
    mean: float
    sd: float

    def __str__(self) -> str:
        return f"{_TURNS[self.turn]}: mean {self.mean:.0f}, sd {self.sd:.0f} HU"


class PancreasCT(NiftiPairDataset):
    """Portal-venous abdominal CT with the pancreas labelled in every slice.

    The rows of the labels run the other way than those of a scan converted to NIfTI, and their headers do not say so:
    they are placed by the scan. Of the four ways (rows from the front or the back, slices from the feet or the head)
    the one is taken under which the tissue is most alike, and a case is refused where that is not clear.
    """

    card = DatasetCard(
        name="pancreas-ct",
        title="NIH Pancreas-CT (The Cancer Imaging Archive)",
        anatomy="pancreas",
        role="healthy",
        licence="CC BY 3.0 as listed by catalogues of TCIA collections; read the page of the collection",
        citation=(
            "Roth et al., Data From Pancreas-CT, The Cancer Imaging Archive, 2016, 10.7937/K9/TCIA.2016.tNB1kqBU; Roth "
            "et al., DeepOrgan: Multi-level deep convolutional networks for automated pancreas segmentation, MICCAI "
            "2015, 556-564. Healthy is a convention here: 17 are kidney donors, the others were chosen for having "
            "neither a major abdominal disease nor a lesion of the pancreas; the files do not tell who is a donor"
        ),
        obtain=(
            "cancerimagingarchive.net, collection Pancreas-CT: the images with the NBIA Data Retriever, and the labels "
            "(TCIA_pancreas_labels-02-05-2017.zip), unpacked into one folder pancreas-ct"
        ),
        layout=(
            "PANCREAS_NNNN/<study>/<series>/*.dcm at any depth, or PANCREAS_NNNN.nii.gz, with labelNNNN.nii.gz in a "
            "folder of labels"
        ),
        roi_source="label 1 (pancreas), placed by the scan",
        truth="none",
    )
    folders = ("pancreas-ct", "pancreas_ct", "pancreasct", "nih-pancreas-ct", "nih_pancreas_ct", "nih-pancreas")
    pattern = r".+\.dcm|label\d{4}\.nii(\.gz)?|pancreas_\d{4}\.nii(\.gz)?"
    case_labels = frozenset({0, 1})
    roi_labels = frozenset({1})

    def __init__(self) -> None:
        super().__init__()
        self._slices: dict[Path, tuple[Path, ...]] = {}

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        super().search(root, files, survey)
        others = {first: files[1:] for first, files in self._slices.items()}
        survey.refs = [replace(ref, extra=(*ref.extra, *others.get(ref.image, ()))) for ref in survey.refs]

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair the slices of a patient with the label of the same number."""
        found = by_kind(files, _identify)
        images = unique((*self._grouped(found["slices"]), *found["image"]), survey)
        labels = unique(found["label"], survey) if images else {}
        if foreign := sorted(case for case in images if not 1 <= int(case[-4:]) <= LAST):
            survey.problems.append(
                f"{images[foreign[0]]}: {several(foreign)} are no cases of Pancreas-CT, which has 1 to {LAST}; move "
                "them out of the data root"
            )
        if gone := sorted(WITHDRAWN & set(images)):
            survey.notes.append(f"{several(gone)}: withdrawn from the collection, left out")
        kept = {case: path for case, path in images.items() if case not in WITHDRAWN}
        known = {case: path for case, path in labels.items() if case not in WITHDRAWN}
        return match_labels(kept, known, "label{}.nii.gz", survey)

    def upright(self, ref: CaseRef) -> Upright:
        """Read a scan, and its label as the scan places it."""
        assert ref.label is not None
        if ref.image in self._slices:
            volume = read_series(order_series(self._slices[ref.image]))
        else:
            volume = read_volume(ref.image)
        own = read_grid(ref.label)
        labels = read_labels(ref.label, None, self.case_labels)
        if own.shape != volume.grid.shape:
            raise DataError(
                f"{ref.label}: shape {own.shape}, but the scan {ref.image.parent} has {volume.grid.shape} (columns, "
                f"rows, slices); use both of one release, or leave it out with --exclude {self.card.name}:{ref.id}"
            )
        stored = volume.grid.to_lps(own.from_lps(labels.data))
        if not stored.any():
            return Upright(volume, replace(labels, data=np.ascontiguousarray(stored)), (), volume.trust)
        best = self._placed(ref, volume, stored > 0)
        note = Note(f"label rows and slices placed by the scan, {best}")
        data = np.ascontiguousarray(best.mask, np.uint8)
        return Upright(volume, Labels(data, labels.values, labels.notes), (), volume.trust, (note,))

    def _placed(self, ref: CaseRef, volume: Volume, mask: np.ndarray) -> Placed:
        ways = sorted((_under(volume.data, mask, turn) for turn in _TURNS), key=lambda way: way.sd)
        best, next_ = ways[:2]
        if best.sd > MOST_SD or next_.sd < CLEAR * best.sd:
            raise DataError(
                f"{ref.label}: the label lies on no tissue of one kind, or the scan does not tell how it is placed "
                f"({'; '.join(map(str, ways))}; expected one of at most {MOST_SD:g} and the others {CLEAR:g} times as "
                f"large); use the published label, or leave it out with --exclude {self.card.name}:{ref.id}"
            )
        return best

    def _grouped(self, found: Iterable[tuple[str, Path]]) -> list[tuple[str, Path]]:
        """Return each folder of slices by its first file, and remember the others."""
        folders: dict[tuple[str, Path], list[Path]] = defaultdict(list)
        for case, path in found:
            folders[case, path.parent].append(path)
        self._slices = {files[0]: tuple(sorted(files, key=lambda p: natural_key(p.name))) for files in folders.values()}
        return [(case, files[0]) for (case, _), files in folders.items()]


def _identify(path: Path) -> tuple[str, str] | None:
    if match := _SLICES.fullmatch(path.absolute().as_posix()):
        return "slices", f"PANCREAS_{match[1]}"
    if match := _LABEL.fullmatch(path.name):
        return "label", f"PANCREAS_{match[1]}"
    if match := _CONVERTED.fullmatch(path.name):
        return "label" if "label" in path.parent.name.lower() else "image", f"PANCREAS_{match[1]}"
    return None


def _under(image: np.ndarray, mask: np.ndarray, turn: tuple[int, ...]) -> Placed:
    turned = np.flip(mask, turn)
    values = image[turned]
    return Placed(turn, turned, float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)))
