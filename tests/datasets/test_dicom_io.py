import numpy as np
import pytest
import SimpleITK
from uasbench.common.errors import DataError
from uasbench.datasets.reading.dicom_io import order_series, read_series

SPACING = (2.5, 0.75, 0.7)


def _noise(shape=(6, 10, 12), seed=0):
    return np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16)


@pytest.fixture
def put(put_slice):
    """Return a writer of one slice at a position."""

    def write(path, plane, position, *, number=1, spacing=SPACING[1:], tags=(), axes=None, series=None):
        place = {"0020|0032": "\\".join(f"{c:.6f}" for c in position), "0020|0013": str(number)}
        other = {tag: text for tag, text in (("0020|0037", axes), ("0020|000e", series)) if text}
        return put_slice(path, plane, spacing, {**place, **other, **dict(tags)})

    return write


@pytest.fixture
def put_series(put):
    """Return a writer of slices at ``heights`` (mm, feet to head), numbered from the head.

    ``shift`` moves each along y per mm.
    """

    def write(folder, lps, heights=None, *, shift=0.0, order=None, **options):
        heights = np.arange(len(lps)) * SPACING[0] - 300 if heights is None else np.asarray(heights)
        files = []
        for at, (name, plane, height) in enumerate(zip(order or range(len(lps)), lps, heights, strict=True)):
            place = (-90.0, -80.0 + shift * (height - heights[0]), height)
            files.append(put(folder / f"IM{name:04d}.dcm", plane, place, number=len(lps) - at, **options))
        return files

    return write


def test_slices_are_ordered_by_position_not_by_name(put_series, tmp_path):
    lps = _noise()
    files = put_series(tmp_path, lps, order=[3, 0, 5, 1, 4, 2])
    series = order_series(sorted(files))
    assert series.numbered_from_head is True
    volume = read_series(series)
    np.testing.assert_array_equal(volume.data, lps)
    assert volume.spacing == pytest.approx(SPACING)
    assert volume.notes == ()
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    reference = reader.Execute()
    np.testing.assert_array_equal(volume.data, SimpleITK.GetArrayFromImage(reference))
    assert volume.spacing == pytest.approx(reference.GetSpacing()[::-1])


def test_rows_stored_from_the_left_and_columns_from_the_back(put_series, tmp_path):
    lps = _noise()
    for name, stored, x in (("a", lps[:, ::-1, ::-1], -1), ("b", lps[:, ::-1], 1)):
        files = put_series(tmp_path / name, stored, axes=f"{x}\\0\\0\\0\\-1\\0")
        np.testing.assert_array_equal(read_series(order_series(files)).data, lps)


def test_numbering_is_judged_and_rounded_positions_are_even(put, put_series, tmp_path):
    files = put_series(tmp_path / "a", _noise()[::-1], heights=-np.arange(6) * 2.0)
    assert order_series(files).numbered_from_head is False
    files = [put(tmp_path / "b" / f"{i}.dcm", _noise()[i], (0, 0, i), number=5 if i == 2 else i) for i in range(5)]
    assert order_series(files).numbered_from_head is None
    files = put_series(tmp_path / "c", _noise(), np.round(np.arange(6) * 0.6666, 2))
    assert order_series(files).grid.spacing[0] == pytest.approx(0.666, abs=1e-3)


@pytest.mark.parametrize(
    ("heights", "message"),
    [
        ([0, 1.14, 5.36, 9.58, 13.8, 21.18], r"uneven slice spacing, 1\.14 to 7\.38 mm \(mostly 4\.22.*resample"),
        (
            [0, 2, 4, 8, 10, 12],
            r"uneven slice spacing, 2\.00 to 4\.00 mm .*IM0002\.dcm and IM0003\.dcm\); copy the missing",
        ),
        ([0, 2, 4, 4, 6, 8], r"1 positions hold two slices \(first: IM0002\.dcm and IM0003\.dcm\)"),
    ],
)
def test_uneven_steps_are_refused(put_series, tmp_path, heights, message):
    files = put_series(tmp_path, _noise(), heights)
    with pytest.raises(DataError, match=message):
        order_series(files)


def test_tilt_is_refused_however_it_is_told(put, put_series, tmp_path):
    lps = _noise()
    with pytest.raises(DataError, match=r"gantry tilt of 18\.5 degrees; correct the tilt"):
        order_series(put_series(tmp_path / "tag", lps, tags={"0018|1120": "18.5"}.items()))
    with pytest.raises(DataError, match=r"shifted sideways by 4\.4 mm from end to end \(gantry tilt of 19\.3 degrees"):
        order_series(put_series(tmp_path / "shift", lps, shift=0.35))
    oblique = "1\\0\\0\\0\\0.948324\\-0.317305"
    with pytest.raises(DataError, match=r"oblique by|shifted sideways"):
        order_series(put_series(tmp_path / "axes", lps, axes=oblique))
    folder, axes = tmp_path / "sagittal", "0\\1\\0\\0\\0\\-1"
    sagittal = [put(folder / f"{i}.dcm", plane, (i * 2.0, 0, 0), axes=axes) for i, plane in enumerate(lps)]
    with pytest.raises(DataError, match="not axial"):
        order_series(sagittal)


def test_a_scout_is_left_out_and_a_second_scan_refused(put, put_series, tmp_path):
    lps = _noise()
    files = put_series(tmp_path, lps)
    scout = put(tmp_path / "scout.dcm", _noise((20, 20)), (0, 0, 0), series="1.2.4")
    series = order_series([*files, scout])
    assert len(series.slices) == 6
    assert "scout.dcm: a single image of another series" in read_series(series).notes[0].text
    other = put_series(tmp_path / "other", lps, series="1.2.5")
    with pytest.raises(DataError, match="2 series of 6, 6 slices, expected one scan"):
        order_series([*files, *other])
    with pytest.raises(DataError, match="0 series of no slices"):
        order_series([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tags": {"0008|0060": "MR"}.items()}, "modality MR, expected CT"),
        ({"axes": "1\\0\\0\\0\\0.999\\0.0447"}, r"axes .* keep the slices of one scan"),
        ({"spacing": (0.8, 0.8)}, "spacing .* keep the slices of one scan"),
    ],
)
def test_a_slice_of_another_kind(put, put_series, tmp_path, options, message):
    files = put_series(tmp_path, _noise()[:5])
    odd = put(tmp_path / "odd.dcm", _noise()[5], (-90.0, -80.0, -287.5), **options)
    with pytest.raises(DataError, match=message):
        order_series([*files, odd])


def test_a_slice_of_another_size_or_beside_the_others(put, put_series, tmp_path):
    files = put_series(tmp_path, _noise()[:5])
    odd = put(tmp_path / "odd.dcm", _noise((4, 4)), (-90.0, -80.0, -287.5))
    with pytest.raises(DataError, match=r"size \(12, 10\) in IM0000\.dcm, but \(4, 4\) in odd\.dcm"):
        order_series([*files, odd])
    beside = put(tmp_path / "beside.dcm", _noise()[0], (-70.0, -80.0, -295.0))
    with pytest.raises(DataError, match=r"a slice lies 20\.0 mm beside the others \(beside\.dcm\)"):
        order_series([*(f for f in files if f.name != "IM0002.dcm"), beside])


def test_a_slice_cut_short_and_values_that_are_no_hu(put_series, tmp_path):
    files = put_series(tmp_path, _noise((6, 64, 64)))
    data = files[2].read_bytes()
    files[2].write_bytes(data[: len(data) - 5000])
    with pytest.raises(DataError, match=r"IM0002\.dcm: "):
        read_series(order_series(files))
    files[2].write_bytes(data[:100])
    with pytest.raises(DataError, match=r"IM0002\.dcm: no readable DICOM slice"):
        order_series(files)
    with pytest.raises(DataError, match="no Hounsfield units"):
        read_series(order_series(put_series(tmp_path / "grey", _noise().clip(0, 255))))
