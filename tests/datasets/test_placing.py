"""Arrays find their way back to the file of a scan: by its voxels, whatever was decided about its axes."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.dataset import CaseRef
from uasbench.datasets.reading.geometry import Grid
from uasbench.datasets.reading.mhd_io import read_mhd
from uasbench.datasets.reading.placing import Place, place_of
from uasbench.datasets.reading.volume_io import read_map_volume, read_volume


def written(path: Path, place, array: np.ndarray) -> nib.Nifti1Image:
    path.write_bytes(place.nifti(array))
    return nib.load(path)


@pytest.fixture
def scores(abdomen) -> np.ndarray:
    return np.random.default_rng(3).random(abdomen.image.shape).astype(np.float32)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "SAL"])
@pytest.mark.parametrize("options", [{}, {"version": 2}, {"zipped": True}], ids=["plain", "second", "zipped"])
def test_a_map_is_stored_as_its_scan_is_and_reads_back(tmp_path, put_nifti, abdomen, scores, codes, options):
    path = put_nifti(tmp_path / "scan.nii", abdomen.image, codes=codes, **options)
    image = read_volume(path).data.astype(np.float32)
    found = written(tmp_path / "map.nii.gz", place_of(CaseRef("c", "p", path), image), scores)
    own = nib.Nifti1Image.from_bytes(path.read_bytes()) if options == {} else None
    assert found.get_data_dtype() == np.float32
    np.testing.assert_array_equal(read_map_volume(tmp_path / "map.nii.gz"), scores)
    if own is not None:
        np.testing.assert_array_equal(found.affine, own.affine)
        for name in ("sform_code", "qform_code", "pixdim"):
            np.testing.assert_array_equal(found.header[name], own.header[name])


def test_axes_that_anatomy_turned_are_turned_back(tmp_path, put_nifti, abdomen, scores):
    """A scan without a usable header: the file keeps its own, and voxels lie where its voxels do."""
    path = put_nifti(tmp_path / "scan.nii", abdomen.image, form_codes=(0, 0))
    turned = np.flip(read_volume(path).data, (1, 2)).astype(np.float32)
    place = place_of(CaseRef("c", "p", path), turned)
    assert place.flips == (1, 2)
    found = written(tmp_path / "map.nii.gz", place, turned)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(nib.load(path).dataobj).astype(np.float32))
    assert (found.header["sform_code"], found.header["qform_code"]) == (0, 0)
    mask = written(tmp_path / "mask.nii.gz", place, turned > 0)
    assert mask.get_data_dtype() == np.uint8


def test_the_axes_of_the_qform_are_found_where_they_were_chosen(tmp_path, put_nifti, abdomen):
    path = put_nifti(tmp_path / "scan.nii", abdomen.image)
    image = nib.load(path)
    other = nib.Nifti1Image(np.array(image.dataobj), image.affine)
    other.set_sform(np.diag([-1.0, -1, 1, 1]) @ image.affine, 1)
    other.set_qform(image.affine, 1)
    nib.save(other, path)
    volume = read_volume(path)
    chosen = volume.on(volume.grid.other()).data.astype(np.float32)
    found = written(tmp_path / "map.nii.gz", place_of(CaseRef("c", "p", path), chosen), chosen)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(other.dataobj).astype(np.float32))
    np.testing.assert_allclose(found.affine, other.affine)


def test_meta_images_get_the_affine_of_their_header(tmp_path, abdomen, scores):
    import SimpleITK

    image = SimpleITK.GetImageFromArray(abdomen.image)
    image.SetSpacing((0.7, 0.75, 2.5))
    image.SetOrigin((-90.0, -80.0, -300.0))
    SimpleITK.WriteImage(image, str(tmp_path / "scan.mhd"))
    ref = CaseRef("c", "p", tmp_path / "scan.mhd")
    place = place_of(ref, read_mhd(ref.image).data.astype(np.float32))
    (tmp_path / "map.nii.gz").write_bytes(place.nifti(scores))
    back = SimpleITK.ReadImage(str(tmp_path / "map.nii.gz"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(back), scores)
    for ours, theirs in ((back.GetSpacing(), image.GetSpacing()), (back.GetOrigin(), image.GetOrigin())):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_other_voxels_are_refused(tmp_path, put_nifti, abdomen):
    path = put_nifti(tmp_path / "scan.nii", abdomen.image)
    with pytest.raises(DataError, match="in no orientation does this file have the voxels of case c"):
        place_of(CaseRef("c", "p", path), abdomen.image.astype(np.float32) + 1)


AXES = st.permutations([("R", "L"), ("A", "P"), ("S", "I")])


@given(
    codes=AXES.flatmap(lambda axes: st.tuples(*map(st.sampled_from, axes))),
    shape=st.tuples(*[st.integers(1, 4)] * 3),
    flips=st.sets(st.integers(0, 2)),
    shear=st.floats(-0.2, 0.2),
)
def test_the_affine_of_an_array_leads_where_the_file_says_that_the_voxel_lies(codes, shape, flips, shear):
    """In every order of axes, also with a single slice."""
    turn = nib.orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, sign) in enumerate(turn):
        affine[int(axis), column] = sign * (column + 1.5)
    affine[0, :3] += shear
    affine[:3, 3] = (-20, 5, 70)
    grid = Grid(shape, affine)
    place = Place(grid, grid, tuple(sorted(flips)))
    numbers = np.flip(grid.to_lps(np.arange(np.prod(shape)).reshape(shape)), tuple(sorted(flips)))
    found = place.affine(numbers.shape)
    for index in np.ndindex(numbers.shape):
        stored = np.unravel_index(numbers[index], shape)
        np.testing.assert_allclose(found @ [*index, 1], affine @ [*stored, 1], atol=1e-9)
    assert abs(np.linalg.det(found)) > 1e-3
