import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.reading.dicom_tags import DicomTags, read_tags

sys.path.insert(0, str(Path(__file__).parent))
from segmentations import saved, segmentation


@pytest.fixture
def seg():
    return segmentation(
        np.ones((1, 4, 6)), [(0, 0, 0)], (1, 1), patient="LIDC-IDRI-0001", series="1.2.3.4", uid="1.2.5"
    )


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("undefined", [False, True])
def test_headers_of_both_kinds_and_sequences_without_length(tmp_path, seg, implicit, undefined):
    found = read_tags(saved(seg, tmp_path / "a.dcm", implicit=implicit, undefined=undefined))
    assert found == DicomTags(
        "SEG", "LIDC-IDRI-0001", "1.2.5.9", "1.2.5", "Segmentation of Nodule 1 - Annotation 1", "1.2.3.4"
    )


def test_slices_files_that_are_none_and_missing_ones(tmp_path, put_slice):
    tags = {"0010|0020": "anna", "0008|103e": "chest"}
    place = {"0020|0032": "0\\0\\0", "0020|0013": "1"}
    path = put_slice(tmp_path / "a.dcm", np.zeros((4, 6), np.int16), (1.0, 1.0), {**tags, **place})
    found = read_tags(path)
    assert (found.modality, found.patient, found.series, found.description) == ("CT", "anna", "1.2.3", "chest")
    assert found.referenced == ""
    (tmp_path / "b").write_bytes(b"\0" * 200)
    assert read_tags(tmp_path / "b") is None
    with pytest.raises(DataError, match="cannot be read"):
        read_tags(tmp_path / "c")


def test_swapped_bytes_are_refused(tmp_path, seg):
    path = saved(seg, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"))
    with pytest.raises(DataError, match=r"transfer syntax 1\.2\.840\.10008\.1\.2\.2 is not read here"):
        read_tags(path)


@given(cut=st.integers(0, 900), at=st.integers(0, 900), byte=st.integers(0, 255), undefined=st.booleans())
def test_damaged_headers_are_read_or_refused(tmp_path_factory, cut, at, byte, undefined):
    file = segmentation(np.ones((1, 4, 6)), [(0, 0, 0)], (1, 1), patient="p", series="1.2.3.4", uid="1.2.5")
    path = saved(file, tmp_path_factory.mktemp("tags") / "a.dcm", undefined=undefined)
    data = bytearray(path.read_bytes())
    data[at % len(data)] = byte
    path.write_bytes(bytes(data[: len(data) - cut]))
    found = _outcome(path)
    assert found is None or isinstance(found, DicomTags) or found.startswith(f"{path}: ")


def _outcome(path):
    try:
        return read_tags(path)
    except DataError as error:
        return str(error)


@pytest.mark.real_data
def test_real_files_say_what_pydicom_reads(real_ct_2):
    pydicom = pytest.importorskip("pydicom")
    paths = sorted(
        p for name in ("lidc", "traps", "dicom-folder") for p in (real_ct_2 / name).rglob("*") if p.is_file()
    )
    compared = 0
    for path in paths:
        if (found := read_tags(path)) is None:
            continue
        file = pydicom.dcmread(path, stop_before_pixels=True)
        names = ("Modality", "PatientID", "SeriesInstanceUID", "SOPInstanceUID", "SeriesDescription")
        own = tuple(str(file.get(name, "") or "").strip() for name in names)
        assert (found.modality, found.patient, found.series, found.instance, found.description) == own, path
        referenced = file.get("ReferencedSeriesSequence")
        assert found.referenced == (str(referenced[0].SeriesInstanceUID) if referenced else ""), path
        compared += 1
    assert compared > 100
