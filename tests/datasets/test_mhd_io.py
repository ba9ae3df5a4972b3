import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.reading.mhd_io import canonical_index, read_header, read_mhd, read_mhd_labels

SPACING = (2.0, 1.5, 1.25)


def _noise(shape=(4, 5, 6), seed=0, dtype=np.int16):
    return np.random.default_rng(seed).integers(-1000, 1500, shape).astype(dtype)


def _image(lps, axes=(0, 1, 2), flips=(False, False, False)):
    """Return an LPS array as a SimpleITK image with permuted and flipped axes, and a direction that says so."""
    image = SimpleITK.GetImageFromArray(lps)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin((-90.0, -80.0, -300.0))
    image = SimpleITK.PermuteAxes(image, axes)
    return SimpleITK.Flip(image, flips) if any(flips) else image


def _write(path, lps, compressed=False, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(_image(lps, **options), str(path), compressed)
    return path


def _edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@given(
    axes=st.permutations([0, 1, 2]),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    compressed=st.booleans(),
    voxel=st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)),
)
def test_any_axis_order_comes_back_as_lps(axes, flips, compressed, voxel):
    lps = _noise()
    with tempfile.TemporaryDirectory() as folder:
        path = _write(Path(folder) / "a.mhd", lps, compressed, axes=axes, flips=flips)
        volume = read_mhd(path)
        stored = SimpleITK.ReadImage(str(path))
    turned = SimpleITK.DICOMOrient(stored, "LPS")
    np.testing.assert_array_equal(volume.data, lps)
    np.testing.assert_array_equal(volume.data, SimpleITK.GetArrayFromImage(turned))
    assert volume.spacing == pytest.approx(SPACING)
    assert volume.notes == ()
    z, y, x = voxel
    world = turned.TransformIndexToPhysicalPoint((x, y, z))
    assert canonical_index(volume.grid, world) == pytest.approx((z, y, x), abs=1e-6)
    assert turned.TransformPhysicalPointToIndex(world) == (x, y, z)


def test_float_local_and_big_endian_files(tmp_path):
    lps = _noise(dtype=np.float32) + np.float32(0.25)
    volume = read_mhd(_write(tmp_path / "a.mha", lps))
    np.testing.assert_array_equal(volume.data, lps)
    assert volume.data.dtype == np.float32
    path = _write(tmp_path / "b.mhd", _noise())
    _edit(path, "BinaryDataByteOrderMSB = False", "BinaryDataByteOrderMSB = True")
    (tmp_path / "b.raw").write_bytes(_noise().astype(">i2").tobytes())
    np.testing.assert_array_equal(read_mhd(path).data, _noise())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("ElementDataFile", "HeaderSize = -1\nElementDataFile"),
        lambda text: text.replace("Offset = -90", "Offset = 1e-320"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("Offset", "Position").replace("TransformMatrix", "Orientation"),
    ],
)
def test_other_ways_to_write_the_same_header(tmp_path, change):
    path = _write(tmp_path / "a.mhd", _noise())
    path.write_bytes(change(path.read_text()).encode())
    np.testing.assert_array_equal(read_mhd(path).data, _noise())


@pytest.mark.parametrize(
    ("line", "text", "trusted"),
    [
        ("ElementSize = 1 1 1", "ElementSpacing is 1.25 1.5 2, ElementSize is 1 1 1: ElementSpacing is used", False),
        ("Position = 0 0 0", "Offset is -90 -80 -300, Position is 0 0 0: Offset is used, and places are not", True),
        ("Orientation = 0.99 0.14 0 -0.14 0.99 0 0 0 1", "TransformMatrix is used, and angles are not trusted", True),
        ("ElementSize = 1.25 1.505 2\nOrigin = -90 -80 -300\nRotation = 1 0 0 0 1 0 0 0 1", None, True),
    ],
)
def test_names_for_the_same_are_compared(tmp_path, line, text, trusted):
    path = _write(tmp_path / "a.mhd", _noise())
    _edit(path, "ElementType", f"{line}\nElementType")
    volume = read_mhd(path)
    np.testing.assert_array_equal(volume.data, _noise())
    assert (volume.spacing, volume.trust.spacing_trusted) == (pytest.approx(SPACING), trusted)
    said = [str(note) for note in volume.notes]
    assert (len(said) == 1 and said[0].startswith("warning: ") and text in said[0]) if text else not said


@pytest.mark.parametrize("first", [["Offset", "Position"], ["Origin", "Offset"], ["Origin", "Position"]])
def test_the_name_that_is_said_to_be_used_is_the_one_that_is_read(tmp_path, first):
    path = _write(tmp_path / "a.mhd", _noise())
    used, other = first
    _edit(path, "Offset = -90 -80 -300", f"{other} = 7 8 9\n{used} = 1 2 3")
    volume = read_mhd(path)
    assert f"{used} is used" in volume.notes[0].text
    np.testing.assert_allclose(volume.grid.affine[:3, 3], (-1, -2, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: np.clip(a, 0, 255), "0 to 255: no Hounsfield units"),
        (lambda a: np.where(a == a.max(), np.nan, a).astype(np.float32), "1 voxels are NaN or infinite"),
    ],
)
def test_values_that_are_no_hu(tmp_path, change, message):
    path = _write(tmp_path / "a.mhd", change(_noise()))
    with pytest.raises(DataError, match=message):
        read_mhd(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_data_files(tmp_path, compressed):
    path = _write(tmp_path / "a.mhd", _noise((10, 20, 30)), compressed)
    data = tmp_path / ("a.zraw" if compressed else "a.raw")
    whole = data.read_bytes()
    for kept in (whole[: len(whole) * 6 // 10], b""):
        data.write_bytes(kept)
        with pytest.raises(DataError, match=rf"{data.name}: .*truncated file.*download it again"):
            read_mhd(path)
    data.unlink()
    with pytest.raises(DataError, match=rf"a\.mhd: its voxels lie in {data.name}, which is not beside it; copy"):
        read_mhd(path)


def test_compressed_data_with_flipped_bytes_or_of_another_size(tmp_path):
    path = _write(tmp_path / "a.mhd", _noise((10, 20, 30)), True)
    data = tmp_path / "a.zraw"
    whole = data.read_bytes()
    data.write_bytes(whole[:100] + bytes(255 - b for b in whole[100:150]) + whole[150:])
    with pytest.raises(DataError, match=r"a\.zraw: (damaged compressed voxels|the compressed voxels end early)"):
        read_mhd(path)
    data.write_bytes(whole)
    _edit(path, "DimSize = 30 20 10", "DimSize = 30 20 9")
    with pytest.raises(DataError, match=r"12000 voxel bytes, but a\.mhd asks for 10800"):
        read_mhd(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("DimSize = 6 5 4", "DimSize = 6 20", r"2D data of shape \(6, 20\), expected one 3D volume; stack"),
        ("DimSize = 6 5 4", "DimSize = 6 5 2 2", "4D data .* keep one volume"),
        ("DimSize = 6 5 4", "DimSize = 6 5 x", "broken MetaImage header"),
        ("DimSize = 6 5 4\n", "", r"not a MetaImage header \(no DimSize\)"),
        ("ElementSpacing = 1.25 1.5 2\n", "", "no ElementSpacing"),
        ("MET_SHORT", "MET_STRING", "type MET_STRING"),
        ("ElementType", "ElementNumberOfChannels = 3\nElementType", "with 3 values each"),
        ("ElementDataFile = a.raw", "ElementDataFile = LIST", "several files"),
        ("ElementDataFile = a.raw", "ElementDataFile = s%03d.raw 1 4 1", "several files"),
        ("1 0 0 0 1 0 0 0 1", "0.9659 0.2588 0 -0.2588 0.9659 0 0 0 1", "oblique by 15.0 degrees"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 1 0 0 0 0 1", r"a\.mhd: "),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 0", "TransformMatrix is '1 0 0 0 1 0 0 0', expected 9 numbers"),
        ("NDims = 3", "NDims = 1000000", "NDims is 1000000, expected 3"),
        ("NDims = 3", "NDims = -1", "NDims is -1, expected 3"),
        ("NDims = 3", "NDims = 2", "NDims is 2, expected 3"),
        ("ElementSpacing = 1.25 1.5 2", "ElementSpacing = 1e300 1 1", "ElementSpacing is '1e300 1 1'"),
        ("ElementSpacing = 1.25 1.5 2", "ElementSpacing = nan 1 1", "ElementSpacing is 'nan 1 1'"),
        ("ElementDataFile = a.raw", "ElementDataFile = a\0.raw", "control characters"),
        ("ElementDataFile = a.raw", f"ElementDataFile = {'x' * 300}", "more than 255"),
        ("CompressedData = False", "CompressedData = 1e3", "CompressedData is '1e3', expected True or False"),
        ("NDims = 3", "NDims = 3\nDimSize = 9 9 9", "DimSize stands there twice"),
        ("= 1 0 0 0 1 0 0 0 1", "= 1 0 0 0 1 0 0 0 3", "direction, spacing or origin are unusable"),
        (
            "CompressedData",
            "Rotation = -1 0 0 0 1 0 0 0 1\nCompressedData",
            "is 1 0 0 0 1 0 0 0 1, Rotation is -1 0 0 0 1 0 0 0 1: they name different axes; keep the line that is",
        ),
    ],
)
def test_headers_that_cannot_be_used(tmp_path, old, new, message):
    path = _write(tmp_path / "a.mhd", _noise())
    _edit(path, old, new)
    with pytest.raises(DataError, match=message):
        read_mhd(path)


def test_files_that_are_something_else(tmp_path):
    (tmp_path / "a.mhd").write_bytes(b"\x1f\x8b" + bytes(range(256)))
    with pytest.raises(DataError, match="not a MetaImage header"):
        read_header(tmp_path / "a.mhd")
    with pytest.raises(DataError, match="cannot be read"):
        read_header(tmp_path / "b.mhd")


@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
def test_labels_follow_their_own_direction(tmp_path, flips):
    lps = _noise()
    labels = (np.arange(lps.size).reshape(lps.shape) % 7 == 0).astype(np.uint8) * 3
    volume = read_mhd(_write(tmp_path / "a.mhd", lps, flips=(False, True, False)))
    read = read_mhd_labels(_write(tmp_path / "m.mhd", labels, flips=flips), volume, {0, 3, 4})
    np.testing.assert_array_equal(read.data, labels)
    assert (read.values, read.notes) == ((0, 3), ())


def test_labels_elsewhere_are_paired_by_index_with_a_warning_and_refused_where_they_do_not_fit(tmp_path):
    lps = _noise()
    labels = (lps > 0).astype(np.uint8)
    volume = read_mhd(_write(tmp_path / "a.mhd", lps))
    path = _write(tmp_path / "m.mhd", labels)
    _edit(path, "Offset = -90 -80 -300", "Offset = 0 0 0")
    read = read_mhd_labels(path, volume, {0, 1})
    np.testing.assert_array_equal(read.data, labels)
    assert str(read.notes[0]).startswith("warning: m.mhd lies elsewhere")
    for depth, message in (
        (3, r"shape \(6, 5, 3\) \(x, y, z\) differs from the image's \(6, 5, 4\)"),
        (4, "unexpected labels 7; this set uses 0, 3"),
    ):
        path = _write(tmp_path / "m.mhd", np.full((depth, 5, 6), 7, np.uint8))
        with pytest.raises(DataError, match=message):
            read_mhd_labels(path, volume, {0, 3})


def test_a_mask_whose_header_contradicts_itself_is_named(tmp_path):
    lps = _noise()
    volume = read_mhd(_write(tmp_path / "a.mhd", lps))
    path = _write(tmp_path / "m.mhd", (lps > 0).astype(np.uint8))
    _edit(path, "ElementType", "Position = 0 0 0\nElementType")
    read = read_mhd_labels(path, volume, {0, 1})
    np.testing.assert_array_equal(read.data, lps > 0)
    assert str(read.notes[0]).startswith("warning: m.mhd: Offset is -90 -80 -300, Position is 0 0 0")


def test_voxels_lie_beside_their_header_or_below_it(tmp_path):
    """A data set from elsewhere must not make a scan of any file of this machine."""
    path = _write(tmp_path / "set" / "a.mhd", _noise())
    text = path.read_text()
    (tmp_path / "a.raw").write_bytes((path.parent / "a.raw").read_bytes())
    for place in ("../a.raw", str(tmp_path / "a.raw"), "deep/../../a.raw"):
        path.write_text(text.replace("= a.raw", f"= {place}"))
        with pytest.raises(
            DataError, match=r"a\.mhd: its voxels lie in .*outside the folder .*ElementDataFile = a\.raw"
        ):
            read_mhd(path)
    (path.parent / "deep").mkdir()
    (path.parent / "a.raw").rename(path.parent / "deep" / "a.raw")
    for place in ("deep/a.raw", str(path.parent / "deep" / "a.raw")):
        path.write_text(text.replace("= a.raw", f"= {place}"))
        np.testing.assert_array_equal(read_mhd(path).data, _noise())


def test_a_data_file_may_be_a_link(tmp_path):
    path = _write(tmp_path / "store" / "a.mhd", _noise())
    (tmp_path / "set").mkdir()
    for name in ("a.mhd", "a.raw"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / name)
    np.testing.assert_array_equal(read_mhd(tmp_path / "set" / "a.mhd").data, read_mhd(path).data)
