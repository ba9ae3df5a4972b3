"""Masks of a scan that is a DICOM series as one DICOM segmentation, with highdicom (extra ``dicom-seg``)."""

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...common.atomic import new_file
from ...common.errors import DataError, summary
from ...common.fingerprint import array_digest
from ...common.package import NAME
from ...datasets.reading.placing import Place
from ..environment import versions

EXTRA = "dicom-seg"
_TYPES = {"roi": ("123037004", "Anatomical Structure"), "lesion": ("49755003", "Morphologically Abnormal Structure")}


class Segment(NamedTuple):
    """A mask, bool (z, y, x), with its name; ``made_by`` is the method that predicts it, nothing for manual labels."""

    label: str
    kind: str
    mask: np.ndarray
    made_by: str = ""


def missing() -> str | None:
    """Return how to install what is needed, None where it is there."""
    return None if find_spec("highdicom") else f"highdicom is not installed: pip install '{NAME}[{EXTRA}]'"


def write_segmentation(path: Path, place: Place, segments: Iterable[Segment], title: str) -> None:
    """Write masks as the segments of one file that refers to the slices of their scan; nothing without a mask.

    Raises:
        DataError: the scan is no DICOM series, or its slices lack what a segmentation has to repeat of them.
        DiskError: the disk is full or the folder cannot be written.
    """
    segments = list(segments)
    if place.series is None:
        raise DataError(f"{path}: the scan is no DICOM series, so that no DICOM segmentation can refer to it")
    if not segments:
        return
    highdicom, pydicom = import_module("highdicom"), import_module("pydicom")
    slices = [pydicom.dcmread(one.path) for one in place.series.slices]
    first = place.series.slices[0].path
    pixels = np.stack([place.stored(segment.mask).T for segment in segments], axis=-1).astype(np.uint8)
    # The same masks of the same scan get the same names.
    named = [str(slices[0].get("SOPInstanceUID", first)), title, array_digest(pixels)]
    for one in slices:
        if one.get("SliceThickness") is None:  # it may be empty, and is repeated
            one.SliceThickness = pydicom.valuerep.DSfloat(place.grid.spacing[0], auto_format=True)
    series, instance = (pydicom.uid.generate_uid(entropy_srcs=[*named, part]) for part in ("series", "instance"))
    try:
        found = highdicom.seg.Segmentation(
            source_images=slices,
            pixel_array=pixels,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_description(number, one) for number, one in enumerate(segments, 1)],
            series_instance_uid=series,
            series_number=900,
            sop_instance_uid=instance,
            instance_number=1,
            manufacturer=NAME,
            manufacturer_model_name=NAME,
            software_versions=versions()[NAME],
            device_serial_number="0",
            content_description=title[:64],
        )
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{first}: no DICOM segmentation can be made of this series ({summary(error)})") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as temporary:
        found.save_as(temporary)


def _description(number: int, segment: Segment) -> Any:
    highdicom, coding = import_module("highdicom"), import_module("pydicom.sr.coding")
    value, meaning = _TYPES[segment.kind]
    coded = coding.Code(value, "SCT", meaning)
    made = {"algorithm_type": highdicom.seg.SegmentAlgorithmTypeValues.MANUAL}
    if segment.made_by:
        family = coding.Code("123110", "DCM", "Artificial Intelligence")
        algorithm = highdicom.AlgorithmIdentificationSequence(segment.made_by, family, versions()[NAME])
        made = {
            "algorithm_type": highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            "algorithm_identification": algorithm,
        }
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label[:64],
        segmented_property_category=coded,
        segmented_property_type=coded,
        **made,
    )
