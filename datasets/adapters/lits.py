"""LiTS: liver tumours of the MICCAI 2017 challenge; also its twin, task 3 of the Medical Segmentation Decathlon."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..case import Case, warning
from ..dataset import DatasetCard
from ..reading.orientation import flips_from_liver
from .nifti_pair import NiftiPairDataset, match_labels
from .surveying import Survey, by_kind, unique

TUMOUR_FREE = frozenset(f"volume-{n}" for n in (32, 34, 38, 41, 47, 87, 89, 91, 105, 106, 114, 115, 119))
"""The training scans without tumour (LiTS card, docs/datasets.md)."""
LOST_HEADERS = frozenset(f"volume-{n}" for n in range(28, 48))
"""Training scans whose header was lost in the release; their spacing is unknown."""

_TWIN_FOLDERS = {"imagestr": "twin", "labelstr": "twin label", "imagests": "test-volume"}
_NAME = re.compile(r"(test-volume|volume|segmentation|liver)[-_](\d+)\.nii(?:\.gz)?", re.IGNORECASE)


class LiTS(NiftiPairDataset):
    """Contrast-enhanced abdominal CT with liver (1) and liver tumour (2) labels."""

    card = DatasetCard(
        name="lits",
        title="LiTS, Liver Tumor Segmentation Benchmark",
        anatomy="liver",
        role="lesion",
        licence="CC BY-NC-SA 4.0 (as listed for the challenge release; Task03_Liver of the Decathlon: CC BY-SA 4.0)",
        citation="Bilic et al., The Liver Tumor Segmentation Benchmark (LiTS), Medical Image Analysis 84, 2023, 102680",
        obtain="register at the LiTS challenge (codalab.org, competition 17094) and unpack the two training batches",
        layout=(
            "volume-N.nii[.gz] and segmentation-N.nii[.gz] at any depth, e.g. 'Training Batch 1/volume-0.nii', "
            "or alone Task03_Liver/imagesTr/liver_N.nii.gz and labelsTr/liver_N.nii.gz"
        ),
        roi_source="label >= 1 (liver or tumour), Zhang et al. 2023",
        partner="btcv",
        reference="hu-deviation",
        truth="voxel",
        finding="tumour",
    )
    folders = ("lits", "lits17", "lits2017", "litsdataset")
    twin_folders = ("task03_liver",)
    case_labels = frozenset({0, 1, 2})
    roi_labels = frozenset({1, 2})
    lesion_labels = frozenset({2})
    find_flips = staticmethod(flips_from_liver)

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair volume-N with segmentation-N, or the Decathlon's imagesTr with labelsTr."""
        found = by_kind(files, _identify)
        volumes, segmentations, twins = found["volume"], found["segmentation"], found["twin"]
        if tests := found["test-volume"]:
            survey.notes.append(f"{len(tests)} test scans without public labels are ignored")
        if volumes and twins:
            survey.problems.append(
                f"{volumes[0][1].parent} and {twins[0][1].parent} hold the same scans twice "
                "(Task03_Liver of the Medical Segmentation Decathlon is LiTS under other names); keep one of the two"
            )
            return {}
        if twins:
            survey.notes.append("Task03_Liver names: liver_N is read as volume-N")
            images, labels = unique(twins, survey), unique(found["twin label"], survey)
            return match_labels(images, labels, "labelsTr/liver_{}.nii.gz", survey)
        return match_labels(unique(volumes, survey), unique(segmentations, survey), "segmentation-{}.nii", survey)

    def load(self, case_id: str) -> Case:
        """Read a case; spacing of exactly 1 mm among the scans with lost headers is marked as not trusted."""
        case = super().load(case_id)
        believed = case.trust.spacing_trusted and case.trust.spacing_source == "header"
        if case_id in LOST_HEADERS and case.spacing == (1.0, 1.0, 1.0) and believed:
            note = warning("spacing 1 x 1 x 1 mm is not trusted (volume-28 to volume-47 lost their headers)")
            return replace(case, notes=(*case.notes, note), trust=replace(case.trust, spacing_trusted=False))
        return case

    def inspect_all(self, lesion_voxels: Mapping[str, int]) -> list[str]:
        """Return where the labels disagree with the 13 scans known to have no tumour; others are not judged."""
        empty = {case for case, count in lesion_voxels.items() if count == 0}
        wrong_empty = sorted(empty - TUMOUR_FREE)
        wrong_full = sorted((TUMOUR_FREE & set(lesion_voxels)) - empty)
        findings = []
        if wrong_empty:
            findings.append(f"no tumour label in {', '.join(wrong_empty)}, which have tumours in the published labels")
        if wrong_full:
            findings.append(f"tumour labels in {', '.join(wrong_full)}, which have none in the published labels")
        return findings


def _identify(path: Path) -> tuple[str, str] | None:
    """A scan of the Decathlon is what its folder says, and foreign in any other."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    kind = match[1].lower()
    if kind == "liver":
        kind = _TWIN_FOLDERS.get(path.parent.name.lower())
    return None if kind is None else (kind, f"volume-{int(match[2])}")
