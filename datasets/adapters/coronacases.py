"""Coronacases: the ten COVID-19 CT in Hounsfield units of COVID-19-CT-Seg, with lung and infection masks."""

import re
from pathlib import Path
from typing import ClassVar

from ..dataset import DatasetCard
from ..reading.side_tables import natural_key
from .lung_folders import LungFile, LungFoldersDataset, kind_of_folder
from .nifti_pair import match_labels
from .surveying import Survey, by_kind, case_name, unique

INFECTION = 3
COMBINED_LABELS = frozenset({0, 1, 2, INFECTION})
COMBINED_ROI = "mask file Lung_and_Infection_Mask (lung 1, 2 and infection 3)"

_KINDS = {
    "covid19ctseg20cases": "image",
    "ctscans": "image",
    "lungmask": "lung",
    "infectionmask": "infection",
    "lungandinfectionmask": "combined",
}
_CORONACASES = re.compile(r"coronacases(?:_org)?_(\d+)", re.IGNORECASE)
_RADIOPAEDIA = re.compile(r"radiopaedia(?:_org_covid-19-pneumonia)?[-_](\d+)_(\d+)_(\d+)(?:-dcm)?", re.IGNORECASE)


class Coronacases(LungFoldersDataset):
    """COVID-19 chest CT with voxel masks of lungs (1 left, 2 right) and infection."""

    card = DatasetCard(
        name="coronacases",
        title="Coronacases of COVID-19-CT-Seg",
        anatomy="lung",
        role="lesion",
        licence="CC BY 4.0 (Zenodo record 3757476; coronacases.org and radiopaedia.org own the scans)",
        citation=(
            "Ma et al., Towards data-efficient learning: a benchmark for COVID-19 CT lung and infection segmentation, "
            "Medical Physics 48, 2021, 1197-1210"
        ),
        obtain="download the four archives of Zenodo record 3757476 and unpack them into one folder",
        layout=(
            "COVID-19-CT-Seg_20cases/, Lung_Mask/, Infection_Mask/ and Lung_and_Infection_Mask/ with "
            "coronacases_NNN.nii.gz in each, or ct_scans/coronacases_org_NNN.nii with lung_mask/, infection_mask/ and "
            "lung_and_infection_mask/coronacases_NNN.nii"
        ),
        roi_source="Lung_Mask > 0; without it Lung_and_Infection_Mask > 0; without both the lungs are segmented",
        partner="luna16",
        reference="hu-opened",
        truth="voxel",
        finding="pneumonia",
    )
    folders: ClassVar[tuple[str, ...]] = ("coronacases", "covid-19-ct-seg", "covid19-ct-scans")
    case_labels = frozenset({0, 1})
    lesion_labels = frozenset({1})

    def __init__(self) -> None:
        super().__init__()
        self._combined: set[str] = set()

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair CT and masks by the id in their names; radiopaedia_* files are counted and left alone."""
        found = by_kind(files, _identify)
        windowed = sorted(found["windowed"], key=lambda item: natural_key(item[0]))
        kinds = ("image", "lung", "infection", "combined")
        images, lungs, infections, combined = (unique(found[kind], survey) for kind in kinds)
        if windowed:
            text = (
                f"{len(windowed)} radiopaedia_* CT of COVID-19-CT-Seg are windowed to 0-255 and no longer in "
                "Hounsfield units"
            )
            if images:
                survey.notes.append(f"{text}: ignored")
            else:
                survey.problems.append(
                    f"{windowed[0][1]}: {text}, which every method here needs; use the coronacases_* files"
                )
                return {}
        expected = "Infection_Mask/coronacases_{}.nii.gz and no Lung_and_Infection_Mask"
        ct = "COVID-19-CT-Seg_20cases/coronacases_{}.nii.gz"
        pairs = match_labels(images, {**combined, **infections}, expected, survey, others=lungs, ct=ct)
        self._combined = pairs.keys() & combined.keys() - infections.keys()
        for case in pairs:
            if case in lungs:
                self.lung_files[case] = LungFile(lungs[case], frozenset({0, 1, 2}), sides=True)
            elif case in combined:
                self.lung_files[case] = LungFile(combined[case], COMBINED_LABELS, COMBINED_ROI, sides=True)
            if case in self._combined:
                folder = combined[case].parent.name
                self.case_notes[case] = [f"no Infection_Mask: infection is label {INFECTION} of {folder}"]
        return pairs

    def lesion_values(self, case_id: str) -> tuple[frozenset[int], frozenset[int]]:
        if case_id in self._combined:
            return COMBINED_LABELS, frozenset({INFECTION})
        return super().lesion_values(case_id)


def case_id(name: str) -> str | None:
    """Return the case that a CT or mask belongs to, by its file name without ending, or None.

    >>> case_id("coronacases_org_001"), case_id("radiopaedia_org_covid-19-pneumonia-14_85914_0-dcm")
    ('coronacases_001', 'radiopaedia_14_85914_0')
    """
    if match := _CORONACASES.fullmatch(name):
        return f"coronacases_{int(match[1]):03d}"
    if match := _RADIOPAEDIA.fullmatch(name):
        return "radiopaedia_" + "_".join(match.groups())
    return None


def _identify(path: Path) -> tuple[str, str] | None:
    kind, case = kind_of_folder(path, _KINDS), case_id(case_name(path))
    if kind is None or case is None:
        return None
    if case.startswith("radiopaedia_"):
        return ("windowed", case) if kind == "image" else None
    return kind, case
