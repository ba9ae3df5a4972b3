"""Radiopaedia: the nine COVID-19 volumes that MedSeg labelled."""

import re
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...common.errors import DataError
from ..dataset import DatasetCard
from ..reading.volume_io import read_grid, read_labels
from .lung_folders import LungFile, LungFoldersDataset, files_by_kind, report_orphans
from .surveying import Survey

GROUND_GLASS, CONSOLIDATION, EFFUSION = 1, 2, 3
MIN_LESION_VOXELS = 100

_KINDS = {"rpim": "image", "rplungmsk": "lung", "rpmsk": "lesion"}
_NAME = re.compile(r"(\d+)")


class Radiopaedia(LungFoldersDataset):
    """Axial volumes with ground glass (1), consolidation (2) and pleural effusion (3, which is not lesion).

    Volumes with fewer than 100 lesion voxels are no cases: Yao et al. 2021 leave number 6 out for that. As a list of
    cases must not depend on which of them can be loaded, :meth:`discover` counts the voxels of the lesion masks, the
    one exception to reading names alone; a mask that cannot be read stays a case and is refused when it is loaded.
    """

    card = DatasetCard(
        name="radiopaedia",
        title="COVID-19 CT segmentation dataset no. 2 (MedSeg, Radiopaedia volumes)",
        anatomy="lung",
        role="lesion",
        licence="scans of radiopaedia.org: CC BY-NC-SA 3.0; for the masks see the page of MedSeg",
        citation=(
            "MedSeg, Jenssen, Sakinis: COVID-19 CT segmentation dataset, figshare, 2021, 13521488 and 13521509. "
            "The scans are thick or padded slices of radiopaedia.org; distances along z mean little"
        ),
        obtain="download rp_im.zip, rp_msk.zip and rp_lung_msk.zip (medicalsegmentation.com/covid19) and unpack them",
        layout="rp_im/N.nii[.gz], rp_msk/N.nii[.gz] and rp_lung_msk/N.nii[.gz], N from 1 to 9",
        roi_source="rp_lung_msk > 0; without it the lungs are segmented",
        partner="luna16",
        reference="hu-opened",
        truth="voxel",
    )
    folders: ClassVar[tuple[str, ...]] = ("radiopaedia", "medseg")
    case_labels = frozenset({0, GROUND_GLASS, CONSOLIDATION, EFFUSION})
    lesion_labels = frozenset({GROUND_GLASS, CONSOLIDATION})

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair the three folders by number and leave volumes without lesion out."""
        found = files_by_kind(files, _KINDS, _case_id, survey)
        images, lungs, lesions = found["image"], found["lung"], found["lesion"]
        report_orphans((lesions, lungs), images, "rp_im/{}.nii.gz", survey)
        pairs, excluded = {}, []
        reported = "\n".join(survey.problems)
        for case, image in images.items():
            if case not in lesions:
                if f"{case} lies in" not in reported:
                    survey.problems.append(
                        f"{image}: image without label (no rp_msk/{image.name}); add the mask or move the image away"
                    )
                continue
            if self._count(lesions[case]) < MIN_LESION_VOXELS:
                excluded.append(case)
                continue
            pairs[case] = (image, lesions[case])
            if case in lungs:
                self.lung_files[case] = LungFile(lungs[case])
        if excluded:
            text = (
                f"{len(excluded)} of {len(images)} volumes excluded by rule, fewer than {MIN_LESION_VOXELS} lesion "
                f"voxels: {', '.join(excluded)} (Yao et al. 2021 leave out number 6)"
            )
            (survey.notes if pairs else survey.problems).append(text)
        return pairs

    def lesion_values(self, case_id: str) -> tuple[frozenset[int], frozenset[int]]:
        del case_id
        return self.case_labels, self.lesion_labels

    def _count(self, path: Path) -> int:
        """Return the lesion voxels of a mask; a mask that cannot be read counts as full."""
        try:
            labels = read_labels(path, read_grid(path))
        except DataError:
            return MIN_LESION_VOXELS
        return int(np.isin(labels.data, sorted(self.lesion_labels)).sum())


def _case_id(name: str) -> str | None:
    match = _NAME.fullmatch(name)
    return f"rp_{int(match[1])}" if match else None
