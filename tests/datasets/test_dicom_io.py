import numpy as np
import pytest
import SimpleITK
from uasbench.common.errors import DataError
from uasbench.datasets.reading.dicom_io import order_series, read_folder, read_series, transfer_syntax

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
            r"uneven slice spacing, 2\.00 to 4\.00 mm .*IM0002\.dcm and IM0003\.dcm, z = 4 and 8 mm\); copy the",
        ),
        ([0, 2, 4, 4, 6, 8], r"1 positions hold two slices \(first: IM0002\.dcm and IM0003\.dcm at z = 4 mm\)"),
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
    with pytest.raises(DataError, match=r"2 series, expected one scan: .*; name one of them, or keep the files"):
        order_series([*files, *other])
    with pytest.raises(DataError, match="0 series, expected one scan; "):
        order_series([])


def test_one_of_several_series_is_taken_by_its_name(put, put_series, tmp_path):
    lps = _noise()
    put_series(tmp_path, lps, order=range(10, 16), tags={"0008|103e": "Thin "}.items())
    put_series(tmp_path, _noise((4, 10, 12), 1), series="1.2.5")
    put(tmp_path / "scout.dcm", _noise((20, 20)), (0, 0, 0), series="1.2.4")
    both = (
        r"1\.2\.5 \(4 slices of 12 x 10\), 1\.2\.3 \(6 slices of 12 x 10, Thin\), 1\.2\.4 \(1 slice of 20 x 20\); name"
    )
    with pytest.raises(DataError, match=f"3 series, expected one scan: {both}"):
        read_folder(tmp_path)
    volume = read_folder(tmp_path, "1.2.3")
    np.testing.assert_array_equal(volume.data, lps)
    assert [note.text.partition(" ")[2] for note in volume.notes] == [
        "a single image of another series, ignored",
        "1.2.5 (4 slices of 12 x 10) is not the chosen one, ignored",
    ]
    for name in ("1.2.4", "1.2"):
        with pytest.raises(DataError, match=f"3 series, none of several slices is {name}: "):
            read_folder(tmp_path, name)


def test_what_is_no_ct_slice_is_left_out_of_a_folder(put, put_series, tmp_path):
    lps = _noise()
    put_series(tmp_path, lps)
    (tmp_path / "readme.txt").write_text("about")
    (tmp_path / "DICOMDIR").write_bytes((tmp_path / "IM0000.dcm").read_bytes())
    put(tmp_path / "below" / "other.dcm", lps[0], (0, 0, 0), series="1.2.9")
    for name in ("a", "b"):
        put(tmp_path / f"{name}.dcm", lps[0], (0, 0, 0), tags={"0008|0060": "SR"}.items())
    volume = read_folder(tmp_path)
    np.testing.assert_array_equal(volume.data, lps)
    assert [note.text for note in volume.notes] == ["2 files of modality SR ignored"]
    for file in tmp_path.glob("IM*"):
        file.unlink()
    with pytest.raises(DataError, match=r"no CT slice \(only 2 files of modality SR\); give the folder"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match=r"no CT slice \(no DICOM file\)"):
        read_folder(tmp_path.parent)
    with pytest.raises(DataError, match=r"nowhere: cannot be read \(No such file"):
        read_folder(tmp_path / "nowhere")


def test_slices_of_one_scan_may_name_a_series_each(put_series, tmp_path):
    lps = _noise()
    files = [
        file for i in range(6) for file in put_series(tmp_path, lps[i : i + 1], [2.5 * i], order=[i], series=f"1.{i}")
    ]
    with pytest.raises(DataError, match="6 series, expected one scan"):
        order_series(files)
    np.testing.assert_array_equal(read_series(order_series(files, one_scan=True)).data, lps)


@pytest.mark.parametrize(
    ("kind", "syntax"), [("JPEG2000", "1.2.840.10008.1.2.4.90"), ("JPEG", "1.2.840.10008.1.2.4.70")]
)
def test_compressed_voxels_are_decoded_or_named(put_series, tmp_path, kind, syntax):
    lps = _noise((6, 64, 64))
    files = put_series(tmp_path, lps)
    for file in files:
        image, writer = SimpleITK.ReadImage(file), SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetUseCompression(True)
        writer.SetCompressor(kind)
        writer.SetFileName(file)
        writer.Execute(image)
    assert transfer_syntax(files[0]) == syntax
    np.testing.assert_array_equal(read_folder(tmp_path).data, lps)
    data = files[2].read_bytes()
    for broken, named in ((data[:-3000], syntax), (data.replace(syntax.encode(), b"1.2.840.10008.1.2.4.99"), "4.99")):
        files[2].write_bytes(broken)
        with pytest.raises(DataError, match=r"IM0002\.dcm: its compressed .* install pydicom with pylibjpeg") as caught:
            read_series(order_series(files))
        assert f"{named})" in str(caught.value)


def test_padding_far_below_air_becomes_air(put_series, tmp_path):
    lps = _noise()
    lps[:, :2] = -3024
    put_series(tmp_path, lps)
    volume = read_folder(tmp_path)
    np.testing.assert_array_equal(volume.data, lps.clip(-1024))
    assert "values -3024 to " in volume.notes[0].text


REAL = {
    "dicom-folder/example_ct_dicom": ((12, 512, 512), (2.0, 0.977, 0.977)),
    "traps/evenly_spaced_control": ((8, 64, 64), (2.0, 7.81, 7.81)),
    "lidc/dcmqi/ct-3slice": ((3, 512, 512), (1.0, 0.811, 0.811)),
    "traps/missing_slice": r"4\.00 between 0008\.dcm and 0006\.dcm, z = -780\.5 and -776\.5 mm\); copy the missing",
    "traps/gantry_tilt": r"gantry tilt of 18\.5 degrees",
    "traps/uneven_steps": r"gantry tilt of 18\.5 degrees",
    "traps/mixed_series": r"2 series, .* \(6 slices of 64 x 64, A\), .* \(3 slices of 64 x 64, B\)",
    "traps/duplicate_position": r"0004\.dcm and 0007\.dcm at z = -772\.5 mm",
}


@pytest.mark.real_data
@pytest.mark.parametrize("folder", REAL)
def test_real_folders(folder, real_ct_2):
    if isinstance(wanted := REAL[folder], str):
        with pytest.raises(DataError, match=wanted):
            read_folder(real_ct_2 / folder)
        return
    volume, reader = read_folder(real_ct_2 / folder), SimpleITK.ImageSeriesReader()
    assert (volume.data.shape, volume.spacing) == (wanted[0], pytest.approx(wanted[1], rel=1e-3))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(real_ct_2 / folder)))
    reference = SimpleITK.GetArrayFromImage(reader.Execute())
    np.testing.assert_array_equal(volume.data, reference.clip(-1024, 3071))


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
