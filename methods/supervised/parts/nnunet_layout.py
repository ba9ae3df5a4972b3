"""Lesion sets as nnU-Net reads them: the raw folder layout, and a split of the cases by patient.

Isensee et al. 2021 and the package's documentation of its data set format; axes and spacing as SimpleITK stores them.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ....common.boxes import Box, bounding_box
from ....common.errors import DataError
from ....datasets.case import Case

DATASET_ID = 1
DATASET = f"Dataset{DATASET_ID:03d}_Lesions"
CHANNEL = "CT"  # this name selects normalisation by the intensities of all lesion voxels
FILE_ENDING = ".nii.gz"
OUTSIDE_HU = -1024.0


def organ_image(case: Case, box: Box, *, masked: bool) -> np.ndarray:
    """Return the HU in the box, float32 (z, y, x); with ``masked``, −1024 outside the region of interest."""
    image = case.image[box].astype(np.float32)
    return np.where(case.roi[box], image, np.float32(OUTSIDE_HU)) if masked else image


def raw_name(position: int, case: Case) -> str:
    """Return a name that is unique, sorts in the given order and holds nothing but letters, digits and dashes.

    >>> raw_name(3, Case("volume 7", "p", np.zeros((1, 1, 1)), (1, 1, 1), np.zeros((1, 1, 1), bool)))
    '0003-volume-7'
    """
    return f"{position:04d}-{re.sub(r'[^A-Za-z0-9]+', '-', case.id)}".strip("-")


def write_raw(
    folder: Path, labelled: Iterable[tuple[Case, np.ndarray]], *, margin: int = 0, masked: bool = True
) -> dict[str, str]:
    """Write ``imagesTr``, ``labelsTr`` and ``dataset.json`` below ``folder``.

    Images and labels are cropped to the region of interest; a lesion counts inside it alone, so that the task equals
    that of the other methods. Cases without a region of interest are left out.

    Args:
        folder: the data set's own folder inside ``nnUNet_raw``.
        labelled: cases and lesion masks, bool (z, y, x).
        margin: voxels by which the box exceeds the region of interest.
        masked: set HU outside the region of interest to −1024.

    Returns:
        the patient of each raw name, in the order written.

    Raises:
        DataError: no case has a lesion voxel inside its region of interest.
    """
    patients: dict[str, str] = {}
    lesion_voxels = 0
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for position, (case, lesion) in enumerate(labelled):
        if not case.roi.any():
            continue
        box = bounding_box(case.roi, margin)
        name = raw_name(position, case)
        label = (lesion[box] & case.roi[box]).astype(np.uint8)
        lesion_voxels += int(label.sum())
        _write(folder / "imagesTr" / f"{name}_0000{FILE_ENDING}", organ_image(case, box, masked=masked), case)
        _write(folder / "labelsTr" / f"{name}{FILE_ENDING}", label, case)
        patients[name] = case.patient
    if lesion_voxels == 0:
        raise DataError(
            f"the {len(patients)} labelled cases show no lesion inside a region of interest; nnU-Net needs some: "
            "add lesion cases, or check the label files"
        )
    description = {
        "channel_names": {"0": CHANNEL},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(patients),
        "file_ending": FILE_ENDING,
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2), encoding="utf-8")
    return patients


def write_split(folder: Path, patients: dict[str, str]) -> None:
    """Write ``splits_final.json``, where all cases train and the first patient's show a curve as well.

    The cases that a fold holds out are not here at all, because nobody but the engine may see their labels; nnU-Net
    wants a validation case, and uses it for a curve alone, since the last weights are kept.

    Args:
        folder: the data set's own folder inside ``nnUNet_preprocessed``.
        patients: the patient of each raw name.
    """
    first = next(iter(patients.values()))
    split = {"train": sorted(patients), "val": sorted(name for name, patient in patients.items() if patient == first)}
    folder.mkdir(parents=True)
    (folder / "splits_final.json").write_text(json.dumps([split], indent=2), encoding="utf-8")


def _write(path: Path, array: np.ndarray, case: Case) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(tuple(float(s) for s in reversed(case.spacing)))
    SimpleITK.WriteImage(image, str(path), useCompression=True)
