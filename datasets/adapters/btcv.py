"""BTCV: abdominal CT of Beyond the Cranial Vault, the healthy liver set of the papers."""

import re
from pathlib import Path

import numpy as np

from ...common.boxes import bounding_box
from ..case import Case, Truth
from ..dataset import DatasetCard
from ..reading.orientation import flips_from_liver
from .nifti_pair import NiftiPairDataset, match_labels
from .surveying import Survey, by_kind, unique

LIVER = 6
_NAME = re.compile(r"(img|label)_?(\d{4})\.nii(?:\.gz)?", re.IGNORECASE)
_MIN_BLOB_ML = 0.1


class BTCV(NiftiPairDataset):
    """Portal-venous abdominal CT with 13 organ labels; the liver is label 6."""

    card = DatasetCard(
        name="btcv",
        title="BTCV, Multi-Atlas Labeling Beyond the Cranial Vault (abdomen)",
        anatomy="liver",
        role="healthy",
        licence="CC BY 4.0 as listed by collections that include it; Synapse asks for registration (syn3193805)",
        citation=(
            "Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault: Workshop and Challenge, 2015. "
            "Healthy is a convention here: the patients come from a chemotherapy trial (colorectal cancer) or a "
            "ventral hernia study, and no label tells a metastasis from liver, so the files cannot exclude a tumour"
        ),
        obtain="register at synapse.org (syn3193805), download Abdomen/RawData.zip and unpack it",
        layout="[Abdomen/][RawData/]Training/img/imgNNNN.nii.gz and Training/label/labelNNNN.nii.gz, at any depth",
        roi_source="label 6 (liver), Zhang et al. 2023",
        truth="none",
    )
    folders = ("btcv", "abdomen", "rawdata")
    case_labels = frozenset(range(14))
    roi_labels = frozenset({LIVER})
    find_flips = staticmethod(flips_from_liver)

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair imgNNNN with labelNNNN; test images have no public label and are ignored."""
        found = by_kind(files, _identify)
        labels = unique(found["label"], survey)
        bare = [item for item in found["img"] if item[0] not in labels]
        testing = [item for item in bare if "testing" in {part.lower() for part in item[1].parts[-3:-1]}]
        if testing:
            survey.notes.append(f"{len(testing)} test scans without public labels are ignored")
        images = unique((item for item in found["img"] if item not in testing), survey)
        return match_labels(images, labels, "label{}.nii.gz", survey)

    def inspect(self, case: Case, truth: Truth | None) -> list[str]:
        """Report dark blobs in a liver that passes for healthy."""
        return liver_findings(case)


def _identify(path: Path) -> tuple[str, str] | None:
    match = _NAME.fullmatch(path.name)
    return None if match is None else (match[1].lower(), f"img{match[2]}")


def liver_findings(case: Case) -> list[str]:
    """Return a line on dark blobs of a liver that passes for healthy, where it has any."""
    blobs = dark_blobs(case)
    if not blobs:
        return []
    sizes = ", ".join(f"{ml:.1f}" for ml in blobs[:3])
    return [f"{len(blobs)} blobs below liver mean - 4 sd (largest {sizes} ml): cyst, metastasis or leaking label?"]


def dark_blobs(case: Case) -> list[float]:
    """Return the volumes (ml, largest first) of connected regions of the liver darker than its mean - 4 sd.

    One voxel is taken off the border first, where partial volume is dark in every scan; regions below 0.1 ml are left
    out.
    """
    from scipy import ndimage

    box = bounding_box(case.roi)
    core, image = np.asarray(ndimage.binary_erosion(case.roi[box]), dtype=bool), case.image[box]
    values = image[core]
    if values.size == 0:
        return []
    dark = (image < values.mean(dtype=np.float64) - 4 * values.std(dtype=np.float64)) & core
    regions = np.zeros(dark.shape, dtype=np.int32)
    ndimage.label(dark, output=regions)
    voxel_ml = float(np.prod(case.spacing)) / 1000
    sizes = np.bincount(regions.ravel())[1:] * voxel_ml
    return sorted((float(s) for s in sizes if s >= _MIN_BLOB_ML), reverse=True)
