import gzip
import itertools
import warnings

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.reading.volume_io import read_grid, read_labels, read_map_volume, read_volume

CODES = ["".join(codes) for order in itertools.permutations(("LR", "PA", "SI")) for codes in itertools.product(*order)]
ANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("codes", CODES)
def test_same_anatomy_reads_back_the_same_from_every_axis_code(tmp_path, abdomen, put_nifti, codes):
    path = put_nifti(tmp_path / "ct.nii", abdomen.image, codes=codes, spacing=(2.0, 1.5, 1.25))
    labels = put_nifti(tmp_path / "seg.nii", abdomen.labels, codes=codes, spacing=(2.0, 1.5, 1.25))
    assert read_grid(path).codes == codes
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, abdomen.image)
    assert volume.spacing == (2.0, 1.5, 1.25)
    assert volume.grid.trusted
    assert volume.data.flags.c_contiguous
    assert volume.notes == ()
    read = read_labels(labels, like=volume)
    np.testing.assert_array_equal(read.data, abdomen.labels)
    assert read.values == (0, 1, 2)
    assert read.notes == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
@pytest.mark.parametrize("inter", [-3000.0, -900.0, 5000.0])
def test_intercepts_beyond_the_stored_type(tmp_path, put_nifti, dtype, inter):
    stored = np.arange(120).reshape(4, 5, 6).astype(dtype)
    volume = read_volume(put_nifti(tmp_path / "ct.nii", stored, inter=inter))
    np.testing.assert_array_equal(volume.data, np.clip(stored.astype(int) + int(inter), -1024, 3071))


@ANY
@given(
    slope=st.sampled_from([1.0, 0.5, 0.25, -1.0, 1.7]),
    inter=st.sampled_from([0.0, -1024.0, -1000.5, 12.0]),
    dtype=st.sampled_from(["<i2", ">i2", "<u2", "<i4", ">i4", "<f4", ">f4", "<f8"]),
    version=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_values_agree_with_nibabel(tmp_path, put_nifti, slope, inter, dtype, version, seed):
    rng = np.random.default_rng(seed)
    low = 0 if "u" in dtype else -1500
    stored = rng.integers(low, 4000, (4, 5, 6)).astype(dtype)
    stored.flat[0] = 0 if "u" in dtype else -1100
    path = put_nifti(tmp_path / "ct.nii.gz", stored, slope=slope, inter=inter, version=version, codes="RAS")
    expected = np.clip(nib.as_closest_canonical(nib.load(path)).get_fdata()[::-1, ::-1].T, -1024, 3071)
    data = read_volume(path).data
    np.testing.assert_allclose(data, expected, rtol=1e-6, atol=2e-3)
    whole = "f" not in dtype and slope == 1.0 and inter.is_integer()
    assert data.dtype == (np.int16 if whole else np.float32)


def test_padding_is_clipped_and_noted_and_a_missing_intercept_warned_about(tmp_path, abdomen, put_nifti):
    image = abdomen.image.copy()
    image[:, 0], image[:, 1] = -3024, 4000
    volume = read_volume(put_nifti(tmp_path / "ct.nii.gz", image))
    assert (volume.data.min(), volume.data.max()) == (-1024, 3071)
    assert "-3024 to 4000" in volume.notes[0].text
    volume = read_volume(put_nifti(tmp_path / "ct.nii.gz", abdomen.image + np.int16(1024)))
    assert any(str(note).startswith("warning: no value below 0 HU") for note in volume.notes)


@pytest.fixture(scope="module")
def encoded():
    return np.random.default_rng(0).integers(-1000, 500, (6, 8, 10)).astype(np.int16)


@ANY
@given(share=st.floats(0, 1, exclude_max=True))
@pytest.mark.parametrize("zipped", [True, False])
def test_truncation_anywhere_is_refused(tmp_path, encode_nifti, encoded, zipped, share):
    whole = encode_nifti(encoded)
    data = gzip.compress(whole) if zipped else whole
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=r"ct\.nii\.gz: "):
        read_volume(path)


@ANY
@given(data=st.data())
def test_a_changed_byte_is_refused_or_harmless(tmp_path, encode_nifti, encoded, data):
    whole = bytearray(gzip.compress(encode_nifti(encoded)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(whole)
    try:
        read = read_volume(path).data
    except DataError:
        return
    np.testing.assert_array_equal(read, encoded)


def test_gzip_in_two_members_and_names_that_lie_about_gzip(tmp_path, encode_nifti, encoded, abdomen, put_nifti):
    whole = encode_nifti(encoded)
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(whole[:500]) + gzip.compress(whole[500:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "ct.nii.gz").data, encoded)
    gzipped = read_volume(put_nifti(tmp_path / "a.nii", abdomen.image, zipped=True))
    plain = read_volume(put_nifti(tmp_path / "b.nii.gz", abdomen.image, zipped=False))
    np.testing.assert_array_equal(gzipped.data, plain.data)
    assert "gzip bytes under the name a.nii" in gzipped.notes[0].text
    assert "plain bytes under the name b.nii.gz" in plain.notes[0].text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"BZh91AY", "bzip2"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"<!DOCTYPE html>", "web page"),
        (b"hello", "only 5 bytes"),
        (b"x" * 400, "not a NIfTI file"),
        (b"\0" * 128 + b"DICM" + b"\0" * 400, "DICOM"),
    ],
)
def test_foreign_files_are_named(tmp_path, content, words):
    path = tmp_path / "ct.nii"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_volume(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_volume(tmp_path)


def _save(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.diag([-1.5, -1.5, 2, 1]) if affine is None else affine), path)
    return path


def test_2d_4d_and_colours_are_refused_and_a_lone_last_axis_is_dropped(tmp_path, encoded):
    colour = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(DataError, match="voxels of type"):
        read_volume(_save(tmp_path / "rgb.nii", colour))
    with pytest.raises(DataError, match=r"2D data of shape \(8, 10\).*stack"):
        read_volume(_save(tmp_path / "flat.nii", encoded[0]))
    with pytest.raises(DataError, match="4D data"):
        read_volume(_save(tmp_path / "series.nii", np.stack([encoded, encoded], axis=-1)))
    lone = read_volume(_save(tmp_path / "lone.nii", encoded.T[..., None]))
    np.testing.assert_array_equal(lone.data, encoded)
    assert "size 1" in lone.notes[0].text


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_counted(tmp_path, encoded, put_nifti, bad):
    image = encoded.astype(np.float32)
    image[0, 0, :3] = bad
    with pytest.raises(DataError, match="3 voxels are NaN or infinite"):
        read_volume(put_nifti(tmp_path / "ct.nii.gz", image))


@pytest.mark.parametrize(("low", "top"), [(0, 255), (0, 1), (0, 0), (-1, 1)])
def test_grey_values_are_refused(tmp_path, put_nifti, low, top):
    image = np.linspace(low, top, 60).reshape(3, 4, 5).astype(np.float32)
    with pytest.raises(DataError, match=f"{low} to {top}: no Hounsfield units"):
        read_volume(put_nifti(tmp_path / "ct.nii.gz", image))


@pytest.mark.parametrize(("codes", "affine"), [((0, 0), None), ((1, 1), np.eye(4)), ((2, 0), np.diag([-1, -1, 1, 1]))])
def test_lost_headers_are_not_trusted(tmp_path, abdomen, put_nifti, codes, affine):
    lost = {"affine": affine, "form_codes": codes, "spacing": (1.0, 1.0, 1.0)}
    volume = read_volume(put_nifti(tmp_path / "ct.nii", abdomen.image, **lost))
    assert (volume.grid.trusted, volume.spacing) == (False, (1.0, 1.0, 1.0))
    assert str(volume.notes[0]).startswith("warning: lost header")


def test_codes_without_a_usable_affine(tmp_path, abdomen, put_nifti):
    path = put_nifti(tmp_path / "ct.nii", abdomen.image)
    data, header = bytearray(path.read_bytes()), nib.load(path).header.copy()
    header["srow_x"], header["vox_offset"] = np.nan, 352
    data[:348] = header.binaryblock
    path.write_bytes(data)
    volume = read_volume(path)
    assert (volume.grid.trusted, volume.spacing) == (True, (2.0, 1.5, 1.25))
    assert str(volume.notes[0]) == "warning: sform is unusable, the geometry is that of the qform"
    header["qform_code"] = 0
    data[:348] = header.binaryblock
    path.write_bytes(data)
    volume = read_volume(path)
    assert (volume.grid.trusted, volume.spacing) == (False, (2.0, 1.5, 1.25))


def test_oblique_scan_keeps_its_voxels(tmp_path, abdomen, put_nifti):
    angle = np.radians(12)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.25, -1.5, 2.0])
    affine[:3, 3] = 10
    volume = read_volume(put_nifti(tmp_path / "ct.nii", abdomen.image, affine=affine))
    np.testing.assert_array_equal(volume.data, abdomen.image)
    assert volume.spacing == pytest.approx((2.0, 1.5, 1.25))
    assert "oblique by 12.0 degrees" in volume.notes[0].text


def test_labels_follow_the_image_whole_floats_too_and_say_when_affines_or_shapes_differ(tmp_path, abdomen, put_nifti):
    volume = read_volume(put_nifti(tmp_path / "ct.nii", abdomen.image, codes="RAS"))
    stored = nib.load(put_nifti(tmp_path / "right.nii", abdomen.labels, codes="RAS"))
    _save(tmp_path / "seg.nii", np.asarray(stored.dataobj), np.diag([-1.25, -1.5, 2.0, 1.0]))
    labels = read_labels(tmp_path / "seg.nii", like=volume)
    np.testing.assert_array_equal(labels.data, abdomen.labels)
    assert labels.notes[0].text == (
        "seg.nii is stored as LPS, its image as RAS, and their headers place them apart; "
        "paired index by index, as the scan shows"
    )
    floats = put_nifti(tmp_path / "seg.nii.gz", abdomen.labels.astype(np.float64), codes="RAS")
    labels = read_labels(floats, like=volume.grid)
    assert labels.data.dtype == np.uint8
    np.testing.assert_array_equal(labels.data, abdomen.labels)
    short = put_nifti(tmp_path / "short.nii", abdomen.labels[:-1])
    with pytest.raises(DataError, match=r"\(32, 24, 13\) differs from the image's \(32, 24, 14\)"):
        read_labels(short, like=volume)


@pytest.mark.parametrize(
    ("odd", "dtype", "message"),
    [
        (7, np.uint8, "unexpected labels 7;"),
        (0.5, np.float32, "not whole numbers"),
        (-1, np.int16, "unexpected labels from -1"),
        (np.nan, np.float32, "unexpected labels"),
    ],
)
def test_label_refusals(tmp_path, abdomen, put_nifti, odd, dtype, message):
    volume = read_volume(put_nifti(tmp_path / "ct.nii", abdomen.image))
    labels = abdomen.labels.astype(dtype)
    labels[0, 0, 0] = odd
    with pytest.raises(DataError, match=message):
        read_labels(put_nifti(tmp_path / "odd.nii", labels), like=volume, expected={0, 1, 2})


@pytest.mark.parametrize(("dtype", "off"), [("u1", 0.004), ("<i2", 4e-5), ("<u2", 2e-5)])
def test_labels_that_were_saved_through_a_scale_are_rounded_with_a_note(tmp_path, abdomen, put_nifti, dtype, off):
    volume = read_volume(put_nifti(tmp_path / "ct.nii", abdomen.image))
    slope = 2 / np.iinfo(dtype).max
    stored = np.rint(abdomen.labels / slope).astype(dtype)
    labels = read_labels(put_nifti(tmp_path / "seg.nii", stored, slope=slope), like=volume)
    np.testing.assert_array_equal(labels.data, abdomen.labels)
    (note,) = labels.notes
    assert float(note.text.split()[3]) <= off
    with pytest.raises(DataError, match=r"\(0\.5\d*\); saved through a scale of 0\.5"):
        read_labels(put_nifti(tmp_path / "half.nii", abdomen.labels, slope=0.5), like=volume)


@pytest.mark.parametrize("factor", [1.0000001, 0.9999])
def test_labels_next_to_whole_numbers_are_rounded(tmp_path, abdomen, put_nifti, factor):
    volume = read_volume(put_nifti(tmp_path / "ct.nii", abdomen.image))
    near = (abdomen.labels * np.float32(factor)).astype(np.float32)
    labels = read_labels(put_nifti(tmp_path / "seg.nii", near), like=volume)
    np.testing.assert_array_equal(labels.data, abdomen.labels)
    assert "off a whole number were rounded" in labels.notes[0].text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("scl_inter", value) for value in (np.nan, np.inf, -np.inf, 1e30)),
        *(("vox_offset", value) for value in (np.nan, np.inf, -np.inf, 1e30, -1e30)),
    ],
)
def test_header_fields_that_are_no_numbers_are_named(tmp_path, abdomen, put_nifti, field, value):
    path = put_nifti(tmp_path / "ct.nii", abdomen.image, slope=1.0, inter=1.0)
    data = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    header[field] = value
    data[:348] = header.binaryblock
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{path.name}: {field} is {value:g}".replace("+", r"\+")):
        read_volume(path)


def test_a_map_of_two_orientations_is_refused(tmp_path, put_nifti, two_forms):
    path = put_nifti(tmp_path / "map.nii.gz", np.ones((2, 3, 4), np.float32))
    two_forms(path, (0,))
    with pytest.raises(DataError, match=r"map\.nii\.gz: the sform names the axes RPS, the qform LPS; write the map"):
        read_map_volume(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_maps_keep_their_values(tmp_path, put_nifti, dtype):
    values = np.random.default_rng(0).uniform(0, 200, (4, 5, 6)).astype(dtype)
    if dtype == np.float32:
        values[0, 0, 0] = np.nan
    for codes in ("RAS", "LPS", "SAL"):
        read = read_map_volume(put_nifti(tmp_path / "map.nii.gz", values, codes=codes))
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, values.astype(np.float32))
    scaled = read_map_volume(put_nifti(tmp_path / "map.nii", np.ones((2, 3, 4), np.uint8), slope=0.25, inter=1.0))
    np.testing.assert_array_equal(scaled, 1.25)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name",
    [
        "lits/Training Batch 1/volume-0.nii",
        "lits/Training Batch 1/volume-1.nii",
        "btcv/RawData/Training/img/img0001.nii.gz",
    ],
)
def test_real_scans_agree_with_simpleitk(real_ct, name):
    import SimpleITK as sitk

    image = sitk.DICOMOrient(sitk.ReadImage(str(real_ct / name)), "LPS")
    volume = read_volume(real_ct / name)
    np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(image))
    assert volume.spacing == pytest.approx(image.GetSpacing()[::-1])


def _patched(path, **fields):
    """Write header fields over those of a plain NIfTI file."""
    data, header = bytearray(path.read_bytes()), nib.load(path).header.copy()
    header["vox_offset"] = 352
    for name, value in fields.items():
        header[name] = value
    data[:348] = header.binaryblock
    path.write_bytes(data)
    return path


def test_what_nibabel_mends_in_a_header_is_a_note_of_the_scan_once_and_no_line_on_the_terminal(
    tmp_path, abdomen, put_nifti, capfd, caplog
):
    path = _patched(
        put_nifti(tmp_path / "ct.nii", abdomen.image), sform_code=99, pixdim=[1, -1.25, -1.5, -2, 0, 0, 0, 0]
    )
    volume = read_volume(path)
    mended = [note.text for note in volume.notes if "header mended" in note.text]
    for words in ("sform_code 99 not valid", "pixdim[1,2,3] should be positive"):
        assert len([text for text in mended if words in text]) == 1
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_gzip_inside_gzip_says_so(tmp_path, encoded):
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(gzip.compress(gzip.compress(encoded)))
    with pytest.raises(DataError, match=r"ct\.nii\.gz: gzip bytes inside gzip bytes; unpack the file once"):
        read_volume(path)


@pytest.mark.parametrize(("offset", "noted"), [(352, False), (0, True)])
def test_voxels_without_a_stated_place_that_leave_bytes_over_are_warned_about(
    tmp_path, abdomen, put_nifti, offset, noted
):
    path = _patched(put_nifti(tmp_path / "ct.nii", abdomen.image), vox_offset=offset)
    found = [note for note in read_volume(path).notes if "4 bytes are left over" in note.text]
    assert [note.level for note in found] == ["warning"] * noted


def test_values_beyond_float32_are_clipped_with_a_note_and_no_warning(tmp_path, abdomen, put_nifti):
    image = abdomen.image.astype(np.float64)
    image[3, 4, 5], image[3, 4, 6] = 1e300, -1e300
    path = put_nifti(tmp_path / "ct.nii", image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = read_volume(path)
    assert (volume.data[3, 4, 5], volume.data[3, 4, 6]) == (3071, -1024)
    assert any(note.text.startswith("values -1e+300 to 1e+300 clipped") for note in volume.notes)
