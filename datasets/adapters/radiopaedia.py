"""Radiopaedia: the nine COVID-19 volumes that MedSeg labelled."""

from pathlib import Path
from typing import ClassVar

from ..dataset import DatasetCard
from .lung_folders import MIN_LESION_VOXELS, LungFile, LungFoldersDataset, has_few_voxels, kind_of_folder
from .nifti_pair import match_labels
from .surveying import Survey, by_kind, case_name, unique

GROUND_GLASS, CONSOLIDATION, EFFUSION = 1, 2, 3

_KINDS = {"rpim": "image", "rplungmsk": "lung", "rpmsk": "lesion"}


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
        finding="pneumonia",
    )
    counts_voxels = True
    folders: ClassVar[tuple[str, ...]] = ("radiopaedia", "medseg")
    case_labels = frozenset({0, GROUND_GLASS, CONSOLIDATION, EFFUSION})
    lesion_labels = frozenset({GROUND_GLASS, CONSOLIDATION})

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair the three folders by number and leave volumes without lesion out."""
        found = by_kind(files, _identify)
        images, lungs, lesions = (unique(found[kind], survey) for kind in ("image", "lung", "lesion"))
        pairs = match_labels(images, lesions, "rp_msk/{}.nii.gz", survey, others=lungs, ct="rp_im/{}.nii.gz")
        excluded = [case for case, (_, label) in pairs.items() if has_few_voxels(label, self.lesion_labels)]
        pairs = {case: files for case, files in pairs.items() if case not in excluded}
        self.lung_files = {case: LungFile(path) for case, path in lungs.items() if case in pairs}
        if excluded:
            text = (
                f"{len(excluded)} of {len(images)} volumes excluded by rule, fewer than {MIN_LESION_VOXELS} lesion "
                f"voxels: {', '.join(excluded)} (Yao et al. 2021 leave out number 6)"
            )
            (survey.notes if pairs else survey.problems).append(text)
        return pairs


def _identify(path: Path) -> tuple[str, str] | None:
    kind, name = kind_of_folder(path, _KINDS), case_name(path)
    return (kind, f"rp_{int(name)}") if kind is not None and name.isdecimal() else None
