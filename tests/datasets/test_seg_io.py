import sys
from pathlib import Path

import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.reading import seg_io
from uasbench.datasets.reading.dicom_io import order_series
from uasbench.datasets.reading.seg_io import read_segment, tracking_of

sys.path.insert(0, str(Path(__file__).parent))
from segmentations import saved, segmentation

ROWS, COLUMNS, DEPTH = 5, 7, 6
SPACING = (2.5, 0.8, 0.7)


def _place(z):
    return (-90.0, -80.0, SPACING[0] * z - 300)


@pytest.fixture
def series(tmp_path, put_slice):
    files = []
    for z in range(DEPTH):  # files run from head to feet
        tags = {"0020|0032": "\\".join(map(str, _place(z))), "0020|0013": str(9 - z)}
        plane = np.full((ROWS, COLUMNS), z - 500, np.int16)
        files.append(put_slice(tmp_path / "ct" / f"1-{9 - z}.dcm", plane, SPACING[1:], tags))
    return order_series(files)


@pytest.fixture
def put(tmp_path):
    """Return ``put(zs, **options)``: a segmentation with one plane at each of these slices from the feet."""

    def write(zs, *, planes=None, implicit=False, edit=None, **options):
        rng = np.random.default_rng(0)
        planes = rng.random((len(zs), ROWS, COLUMNS)) < 0.5 if planes is None else planes
        values = {"patient": "p", "series": "1.2.3", "uid": "1.2.7", "spacing": SPACING[1:], **options}
        file = segmentation(planes, [_place(z) for z in zs], **values)
        if edit is not None:
            edit(file)
        return saved(file, tmp_path / "seg.dcm", implicit=implicit), planes

    return write


@pytest.mark.parametrize("options", [{}, {"implicit": True}, {"per_frame": True}])
def test_frames_lie_where_their_positions_say(series, put, options):
    path, planes = put([4, 1, 2], **options)
    found = read_segment(path, series)
    assert tracking_of(path) == "1.2.826.1"
    assert sorted(found) == [1, 2, 4]
    for z, plane in zip([4, 1, 2], planes, strict=True):
        np.testing.assert_array_equal(found[z], plane)


def test_one_frame_and_an_object_that_is_named_by_its_id(series, put):
    def name(file):
        del file.SegmentSequence[0].TrackingUID

    path, planes = put([3], edit=name)
    assert tracking_of(path) == "Nodule 1"
    np.testing.assert_array_equal(read_segment(path, series)[3], planes[0])


def _without(name):
    return lambda file: delattr(file, name)


@pytest.mark.parametrize(
    ("zs", "options", "message"),
    [
        ([1], {"kind": "FRACTIONAL"}, "segmentation type FRACTIONAL; expected a binary DICOM segmentation"),
        (
            [1],
            {"sop": f"{seg_io.STORAGE[:-1]}7", "kind": "LABELMAP"},
            r"SOP class .*66\.7, segmentation type LABEL",
        ),
        ([1], {"sop": "1.2.840.10008.5.1.4.1.1.2"}, r"SOP class 1\.2\.840\.10008\.5\.1\.4\.1\.1\.2, "),
        ([1], {"segments": 2}, "2 segments, expected one per file"),
        ([1], {"planes": np.ones((1, 4, 7))}, r"frames of 7 x 4, but the slices of its CT have 7 x 5"),
        ([1], {"spacing": (0.9, 0.7)}, r"its grid is not that of the slices .*pixel 0\.7, 0\.9 mm"),
        ([1], {"axes": (1, 0, 0, 0, -1, 0)}, "its grid is not that of the slices"),
        ([1.5], {}, r"a frame at \(-90, -80, -296\.25\) mm, where its CT has no slice"),
        ([40], {}, "where its CT has no slice .*outside the scan"),
        ([float("nan")], {}, r"a frame at \(-90, -80, nan\) mm, where its CT has no slice"),
        ([1, 1], {}, r"two frames at \(-90, -80, -297\.5\) mm"),
        ([1], {"edit": _without("PixelData")}, "its frames cannot be read"),
        ([1], {"edit": _without("PerFrameFunctionalGroupsSequence")}, "its frames cannot be read"),
        ([1], {"edit": _without("SharedFunctionalGroupsSequence")}, "its frames cannot be read"),
    ],
)
def test_other_segmentations_are_refused(series, put, zs, options, message):
    path, _ = put(zs, **options)
    with pytest.raises(DataError, match=rf"seg\.dcm: .*{message}|seg\.dcm: {message}"):
        read_segment(path, series)


def test_an_object_without_a_name_is_refused(put):
    with pytest.raises(DataError, match="its segment has no tracking id"):
        tracking_of(put([1], tracking="")[0])


def test_no_dicom_and_no_pydicom(series, tmp_path, monkeypatch):
    (tmp_path / "a.dcm").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read as DICOM"):
        read_segment(tmp_path / "a.dcm", series)
    monkeypatch.setattr(seg_io, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pydicom is not installed: pip install 'uasbench\[dicom-seg\]'"):
        tracking_of(tmp_path / "a.dcm")


@pytest.mark.real_data
def test_a_real_segmentation_is_what_its_twin_in_another_format_says(real_ct_2):
    import SimpleITK

    home = real_ct_2 / "lidc/dcmqi"
    series = order_series(sorted((home / "ct-3slice").iterdir()))
    found = read_segment(home / "liver.dcm", series)
    assert sorted(int(plane.sum()) for plane in found.values()) == [35220, 35645, 36233]
    truth = SimpleITK.ReadImage(str(home / "liver_seg.nrrd"))
    for z, plane in found.items():
        index = truth.TransformPhysicalPointToIndex(series.slices[z].position.tolist())
        np.testing.assert_array_equal(plane, SimpleITK.GetArrayFromImage(truth)[index[2]] > 0)
    with pytest.raises(DataError, match="5 segments, expected one"):
        read_segment(home / "partial_overlaps.dcm", series)
    with pytest.raises(DataError, match="segmentation type LABELMAP"):
        read_segment(home / "sparse-labelmap-noppv.dcm", series)
    for name in ("binary_fractional", "true_fractional"):
        with pytest.raises(DataError, match="segmentation type FRACTIONAL"):
            read_segment(real_ct_2 / f"lidc/highdicom/seg_image_ct_{name}.dcm", series)
