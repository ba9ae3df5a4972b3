"""DICOM segmentations for the tests, written element by element with pydicom."""

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"


def _item(**elements):
    found = Dataset()
    for name, value in elements.items():
        setattr(found, name, value)
    return found


def segmentation(
    planes, positions, spacing, *, patient, series, uid, description="Segmentation of Nodule 1 - Annotation 1",
    tracking="1.2.826.1", segments=1, kind="BINARY", axes=(1, 0, 0, 0, 1, 0), sop=STORAGE, per_frame=False,
):  # fmt: skip
    """Return a segmentation of bool planes (n, rows, columns) at LPS positions; spacing is (along y, along x)."""
    planes = np.asarray(planes, np.uint8)
    file = Dataset()
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = sop, uid, "SEG"
    file.SeriesDescription, file.PatientID, file.SeriesInstanceUID = description, patient, f"{uid}.9"
    instances = Sequence([_item(ReferencedSOPInstanceUID=f"1.2.{n}") for n in range(3)])
    if series is not None:
        file.ReferencedSeriesSequence = Sequence(
            [_item(SeriesInstanceUID=series, ReferencedInstanceSequence=instances)]
        )
    file.NumberOfFrames, file.Rows, file.Columns = len(planes), *planes.shape[1:]
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = (1, 1, 0) if kind == "BINARY" else (8, 8, 7)
    file.SegmentationType = kind
    named = {"TrackingID": "Nodule 1", "TrackingUID": tracking} if tracking else {}
    file.SegmentSequence = Sequence(
        [_item(SegmentNumber=n + 1, SegmentLabel="Nodule", **named) for n in range(segments)]
    )
    grid = {
        "PixelMeasuresSequence": Sequence([_item(PixelSpacing=list(spacing))]),
        "PlaneOrientationSequence": Sequence([_item(ImageOrientationPatient=list(axes))]),
    }
    file.SharedFunctionalGroupsSequence = Sequence([_item(**({} if per_frame else grid))])
    file.PerFrameFunctionalGroupsSequence = Sequence(
        _item(
            PlanePositionSequence=Sequence([_item(ImagePositionPatient=list(map(float, place)))]),
            **(grid if per_frame else {}),
        )
        for place in positions
    )
    pixels = np.packbits(planes.ravel(), bitorder="little") if kind == "BINARY" else 255 * planes
    file.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    return file


def saved(file, path, *, implicit=False, undefined=False):
    """Write a data set as a DICOM file; ``undefined`` writes sequences without their lengths."""
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = file.SOPClassUID, file.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    file.file_meta = meta
    for element in file.iterall() if undefined else ():
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, file, enforce_file_format=True)
    return path
