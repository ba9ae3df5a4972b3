"""Headers that contradict themselves: decided once, said aloud, or refused."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.coronacases import Coronacases
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.adapters.nifti_pair import NiftiPairDataset
from uasbench.datasets.reading.geometry import nifti_grid
from uasbench.datasets.reading.orientation import flips_from_lungs
from uasbench.datasets.reading.volume_io import read_grid, read_volume

SHAPE = (6, 7, 8)
RAS, LAS = np.diag([1.0, 2.0, 3.0, 1.0]), np.diag([-1.0, 2.0, 3.0, 1.0])
RAS[:3, 3] = LAS[:3, 3] = 5


def header(sform=None, qform=None, pixdim=None):
    """Return a NIfTI header with the given forms, code 1 where they are given."""
    made = nib.Nifti1Header()
    made.set_data_shape(SHAPE)
    made.set_qform(qform, 0 if qform is None else 1)
    if pixdim is not None:
        made["pixdim"][1:4] = pixdim
    made.set_sform(sform, 0 if sform is None else 1)
    return made


def turned(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0, 5], [s, c, 0, 5], [0, 0, 1, 5], [0, 0, 0, 1]]) @ np.diag([1.0, 2.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("given", "axes", "spacing", "trusted", "text"),
    [
        ((RAS, RAS), "RAS", (3, 2, 1), (True, True), None),
        ((RAS, None, (1, 2, 3)), "RAS", (3, 2, 1), (True, True), None),
        ((None, LAS), "LAS", (3, 2, 1), (True, True), None),
        ((RAS, None, (0, 0, 0)), "RAS", (3, 2, 1), (True, True), None),
        ((RAS, None, (1.005, 2, 3)), "RAS", (3, 2, 1), (True, True), None),
        ((RAS, None, (1.02, 2, 3)), "RAS", (3, 2, 1), (True, False), "1 x 2 x 3 mm in the sform, 1.02 x 2 x 3 mm"),
        ((turned(0) @ np.diag([1, 0.5, 1 / 3, 1]), RAS), "RAS", (3, 2, 1), (True, False), "pixdim's is used"),
        ((RAS, LAS), "RAS", (3, 2, 1), (False, True), "the sform names the axes RAS, the qform LAS"),
        ((RAS, turned(9)), "RAS", (3, 2, 1), (True, True), "sform and qform differ by 9.0 degrees"),
        ((np.eye(4), LAS), "LAS", (3, 2, 1), (True, True), "sform is the identity, the geometry is that of the qform"),
        ((np.zeros((4, 4)), LAS), "LAS", (3, 2, 1), (True, True), "sform is unusable"),
        ((np.eye(4), None, (1, 2, 3)), "RAS", (3, 2, 1), (False, False), "lost header (identity affine)"),
        ((None, None, (1, 2, 3)), "RAS", (3, 2, 1), (False, False), "lost header (no usable sform or qform)"),
        ((None, None, (0, np.nan, 3)), "RAS", (3, 1, 1), (False, False), "lost header (no usable sform or qform)"),
        ((np.diag([1e30, 2, 3, 1]), None, (1, 2, 3)), "RAS", (3, 2, 1e30), (True, False), "1e+30"),
    ],
)
def test_what_a_header_says_is_compared_once(given, axes, spacing, trusted, text):
    grid = nifti_grid(SHAPE, header(*given))
    assert (grid.codes, (grid.trusted, grid.spacing_trusted)) == (axes, trusted)
    assert grid.spacing == pytest.approx(spacing, rel=0.01)
    warned = [note.text for note in grid.notes if note.level == "warning"]
    assert (text in warned[0] and len(warned) == 1) if text else not warned


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_anatomy_decides_between_two_forms_that_name_other_axes(tmp_path, put_lits_case, two_forms, opened, axes):
    scan = put_lits_case(tmp_path / "lits", 0, codes="RAS")
    for name in ("volume-0.nii", "segmentation-0.nii"):
        two_forms(tmp_path / "lits" / name, axes)
    dataset = opened(LiTS, tmp_path)
    case = dataset.load("volume-0")
    np.testing.assert_array_equal(case.image, scan.image)
    np.testing.assert_array_equal(case.roi, scan.labels > 0)
    np.testing.assert_array_equal(dataset.load_truth("volume-0").lesion, scan.labels == 2)
    assert case.trust.orientation_source == "anatomy"
    warned = [note.text for note in case.notes if note.level == "warning"]
    assert any(text.startswith("axes RAS of") and text.endswith("chosen by anatomy") for text in warned)


def test_two_forms_are_refused_where_no_anatomy_tells(tmp_path, put_lits_case, two_forms, opened, monkeypatch):
    put_lits_case(tmp_path / "lits", 0, codes="RAS")
    two_forms(tmp_path / "lits" / "volume-0.nii", (0,))
    monkeypatch.setattr(LiTS, "find_flips", staticmethod(NiftiPairDataset.find_flips))
    with pytest.raises(
        DataError, match=r"names the axes LAS \(sform\) or RAS \(qform\), and the anatomy does not tell"
    ):
        opened(LiTS, tmp_path).load("volume-0")


@pytest.mark.parametrize("axes", [axes for n in range(3) for axes in itertools.combinations((0, 1), n)])
def test_spine_and_domes_tell_which_way_a_chest_lies(lung_phantom, axes):
    image, lungs = lung_phantom
    found = flips_from_lungs(np.flip(image, axes), np.flip(lungs, axes))
    assert (found.flipped, found.x) == (axes, None)


def test_lungs_without_evidence_tell_nothing():
    image, lungs = np.full((6, 9, 9), -850.0), np.zeros((6, 9, 9), bool)
    assert flips_from_lungs(image, lungs).flipped == ()
    lungs[1:5, 2:7, 2:7] = True
    found = flips_from_lungs(image, lungs)
    assert (found.x, found.y, found.z) == (None, None, None)


@pytest.fixture(scope="module")
def lung_phantom(tmp_path_factory):
    """Image and lungs of a patient of the lung phantom."""
    from uasbench.datasets.phantom.disk import phantom_root

    root = phantom_root(tmp_path_factory.mktemp("lungs"), anatomy="lung", seed=3, size="smoke")
    dataset = Coronacases()
    case = dataset.load(dataset.discover(root)[0].id)
    return case.image, case.roi


def test_a_chest_without_header_is_turned_as_far_as_its_anatomy_tells(tmp_path, put_nifti, lung_phantom, opened):
    image, lungs = lung_phantom
    lost = {"affine": np.eye(4), "spacing": (1.0, 1.0, 1.0)}
    lesion = np.zeros(lungs.shape, np.uint8)
    lesion[tuple(np.argwhere(lungs)[7])] = 1
    files = (("COVID-19-CT-Seg_20cases", image.astype(np.int16)), ("Lung_Mask", lungs.astype(np.uint8)))
    for folder, array in (*files, ("Infection_Mask", lesion)):
        put_nifti(tmp_path / folder / "coronacases_001.nii.gz", np.flip(array, (0, 1, 2))[..., ::-1], **lost)
    dataset = opened(Coronacases, tmp_path)
    case = dataset.load("coronacases_001")
    assert case.trust.orientation_source == "anatomy"
    truth = dataset.load_truth("coronacases_001").lesion
    assert (truth.sum(), (truth & case.roi).sum()) == (1, 1)
    found = flips_from_lungs(case.image, case.roi)
    assert (found.y, found.z) == (False, False)


@pytest.mark.real_data
def test_domes_and_spine_of_real_chests(real_ct):
    from uasbench.datasets.adapters.covid_ct_md import CovidCTMD
    from uasbench.datasets.adapters.luna16 import LUNA16

    for dataset in (LUNA16(), Coronacases(), CovidCTMD()):
        for ref in dataset.discover(real_ct):
            case = dataset.load(ref.id)
            upright = flips_from_lungs(case.image, case.roi)
            assert upright.flipped == ()
            hung = flips_from_lungs(case.image[::-1], case.roi[::-1])
            assert hung.z is (None if upright.z is None else True)


def test_a_volume_on_its_other_axes(tmp_path, abdomen, put_nifti, two_forms):
    path = put_nifti(tmp_path / "ct.nii", abdomen.image, codes="SAR")
    two_forms(path, (1,))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.on(volume.grid.other()).data, abdomen.image)
    np.testing.assert_array_equal(volume.data, abdomen.image[:, ::-1])
    with pytest.raises(ValueError, match="no rival"):
        read_grid(put_nifti(tmp_path / "plain.nii", abdomen.image)).other()
