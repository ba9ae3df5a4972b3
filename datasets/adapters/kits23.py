"""KiTS23: kidney tumours and cysts of the MICCAI 2023 challenge."""

import re
from pathlib import Path

import numpy as np

from ...common.errors import several
from ..case import Note, Spacing, Trust
from ..dataset import DatasetCard
from .nifti_pair import NiftiPairDataset, Upright, match_labels
from .surveying import Survey, by_kind, unique

KIDNEY, TUMOUR, CYST = 1, 2, 3
FIRST_LATE = 500
"""Cases before are of the arterial phase, those from here on of the nephrographic one."""

_CASE = re.compile(r"case_(\d{5})", re.IGNORECASE)
_UNUSED = range(300, 400)
_LAST = 588
_KINDS = {"imaging.nii.gz": "image", "segmentation.nii.gz": "label"}
_PARTIAL = ".partial.imaging.nii.gz"
_FETCH = "run kits23_download_data of github.com/neheller/kits23"


class KiTS23(NiftiPairDataset):
    """Contrast-enhanced CT before surgery with kidney (1), tumour (2) and cyst (3) labels.

    A cyst is neither lesion nor healthy kidney: its voxels are taken out of the region of interest, and with that
    out of every number that is measured inside it.
    """

    card = DatasetCard(
        name="kits23",
        title="KiTS23, Kidney Tumor Segmentation Challenge 2023",
        anatomy="kidney",
        role="lesion",
        licence="CC BY-NC-SA 4.0 (data; the code of its repository is MIT)",
        citation=(
            "Heller et al., The KiTS21 Challenge: Automatic segmentation of kidneys, renal tumors, and renal cysts in "
            "corticomedullary-phase CT, arXiv:2307.01984, 2023; Heller et al., The state of the art in kidney and "
            "kidney tumor segmentation in contrast-enhanced CT imaging: Results of the KiTS19 challenge, Medical Image "
            "Analysis 67, 2021, 101821"
        ),
        obtain="clone github.com/neheller/kits23, which holds the labels, and run its kits23_download_data",
        layout="dataset/case_NNNNN/imaging.nii.gz and segmentation.nii.gz, with dataset/kits23.json",
        roi_source="labels 1 and 2 (kidney or tumour); cysts (3) are cut out and measured nowhere",
        partner="btcv-kidney",
        reference="hu-deviation",
        truth="voxel",
        finding="tumour",
    )
    folders = ("kits23", "kits-23", "kits_23", "kits2023")
    case_labels = frozenset({0, KIDNEY, TUMOUR, CYST})
    roi_labels = frozenset({KIDNEY, TUMOUR})
    lesion_labels = frozenset({TUMOUR})

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair the two files of each case folder; other releases of KiTS are refused by name."""
        if older := _older_releases(files):
            survey.problems += older
            return {}
        found = by_kind(files, _identify)
        images, labels = unique(found["image"], survey), unique(found["label"], survey)
        homes = {path.parents[1] for path in labels.values()}
        survey.notes += [
            f"{home}: no kits23.json, so that nothing tells these labels from those of KiTS19; use a clone of KiTS23"
            for home in sorted(homes)
            if not (home / "kits23.json").is_file()
        ]
        if foreign := sorted(case for case in {**images, **labels} if not _is_published(case)):
            survey.problems.append(
                f"{(images | labels)[foreign[0]].parent}: {several(foreign)} are no cases of KiTS23, which has 0 to "
                "299 and 400 to 588; move them out of the data root"
            )
        if bare := sorted(case for case in labels if case not in images):
            survey.problems.append(_without_image(bare, labels))
        return match_labels(images, {case: path for case, path in labels.items() if case in images}, _LABEL, survey)

    def _geometry(self, case_id: str, found: Upright) -> tuple[Spacing, Trust, list[Note]]:
        spacing, trust, notes = super()._geometry(case_id, found)
        late = int(case_id.removeprefix("case_")) >= FIRST_LATE
        notes.append(Note(f"{'nephrographic' if late else 'arterial'} phase, by the number of the case"))
        if found.labels is not None and (voxels := int(np.count_nonzero(found.labels.data == CYST))):
            notes.append(Note(f"{voxels} voxels of cyst lie outside the region of interest and are not measured"))
        return spacing, trust, notes


_LABEL = "segmentation.nii.gz beside it"


def _identify(path: Path) -> tuple[str, str] | None:
    kind, match = _KINDS.get(path.name.lower()), _CASE.fullmatch(path.parent.name)
    return None if kind is None or match is None else (kind, f"case_{match[1]}")


def _is_published(case: str) -> bool:
    number = int(case.removeprefix("case_"))
    return number <= _LAST and number not in _UNUSED


def _older_releases(files: list[Path]) -> list[str]:
    """Return what belongs to KiTS19 or KiTS21, whose labels mean something else: cysts of KiTS19 are kidney."""
    cases = [path for path in files if _CASE.fullmatch(path.parent.name)]
    later = {path.parents[1] for path in cases if path.name.lower().startswith("aggregated_")}
    homes = {path.parents[1] for path in cases if path.name.lower() in _KINDS} - later
    first = {home for home in homes if not (home / "kits23.json").is_file()}
    first = {home for home in first if home.name.lower() == "data" or (home / "kits.json").is_file()}
    found = dict.fromkeys(later, "KiTS21 (aggregated_*_seg.nii.gz)")
    found |= dict.fromkeys(first, "KiTS19 (data/ or kits.json, no kits23.json), whose labels count cysts as kidney")
    return [
        f"{home}: files of {what}; kits23 reads the labels of 2023 alone, which were drawn anew: "
        "clone github.com/neheller/kits23"
        for home, what in sorted(found.items())
    ]


def _without_image(cases: list[str], labels: dict[str, Path]) -> str:
    first = labels[cases[0]].parent
    broken = [case for case in cases if (labels[case].parent / _PARTIAL).is_file()]
    if broken:
        return (
            f"{labels[broken[0]].parent / _PARTIAL}: {len(broken)} downloads broke off ({several(broken)}); "
            f"delete what is partial and {_FETCH} again"
        )
    return (
        f"{first}: no imaging.nii.gz in {len(cases)} case folders ({several(cases)}); {_FETCH}, or move them out of "
        "the data root"
    )
