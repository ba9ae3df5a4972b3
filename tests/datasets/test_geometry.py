"""Headers that contradict themselves or their labels: decided once, said aloud, or refused."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.coronacases import Coronacases
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.adapters.nifti_pair import NiftiPairDataset
from uasbench.datasets.reading.geometry import Grid, nifti_grid, placement
from uasbench.datasets.reading.orientation import flips_from_lungs
from uasbench.datasets.reading.volume_io import edge_step, read_grid, read_volume

CODES = ["".join(codes) for order in itertools.permutations(("LR", "PA", "SI")) for codes in itertools.product(*order)]
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


@pytest.mark.parametrize("codes", CODES)
def test_a_label_in_any_orientation_lands_where_its_header_says(tmp_path, put_nifti, put_lits_case, opened, codes):
    scan = put_lits_case(tmp_path / "lits", 0, codes=CODES[(7 * CODES.index(codes) + 5) % 48])
    put_nifti(tmp_path / "lits" / "segmentation-0.nii", scan.labels, codes=codes)
    dataset = opened(LiTS, tmp_path)
    case = dataset.load("volume-0")
    np.testing.assert_array_equal(case.image, scan.image)
    np.testing.assert_array_equal(case.roi, scan.labels > 0)
    np.testing.assert_array_equal(dataset.load_truth("volume-0").lesion, scan.labels == 2)
    assert not [note for note in case.notes if note.level == "warning"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    axes=st.tuples(*[st.sampled_from(CODES)] * 3),
    dtype=st.sampled_from(["u1", "<i2", ">i4", "<f4"]),
    zipped=st.booleans(),
)
def test_masks_of_lungs_and_lesions_lie_where_their_own_headers_say(
    tmp_path_factory, put_nifti, chest, opened, axes, dtype, zipped
):
    root = tmp_path_factory.mktemp("chest")
    image, lungs = chest((12, 20, 24))
    lesion = np.zeros(lungs.shape, np.uint8)
    lesion[4:6, 8:11, 5:8] = 1
    files = (("COVID-19-CT-Seg_20cases", image), ("Lung_Mask", lungs), ("Infection_Mask", lesion))
    for (folder, array), codes in zip(files, axes, strict=True):
        stored = array if folder.startswith("COVID") else array.astype(dtype)
        put_nifti(root / folder / "coronacases_001.nii.gz", stored, codes=codes, zipped=zipped)
    dataset = opened(Coronacases, root)
    case = dataset.load("coronacases_001")
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.roi, lungs > 0)
    np.testing.assert_array_equal(dataset.load_truth("coronacases_001").lesion, lesion > 0)


def grid_of(affine, **options):
    return Grid(SHAPE, affine, **options)


def test_a_shifted_or_lost_label_header_moves_nothing():
    shifted = RAS.copy()
    shifted[:3, 3] += 40
    image = grid_of(RAS)
    for label in (grid_of(shifted), grid_of(LAS, trusted=False), grid_of(RAS)):
        place = placement(label, image, "seg.nii")
        assert place.grid is image
        assert not place.contested
    assert placement(grid_of(LAS), grid_of(RAS, trusted=False), "seg.nii").text == ""


def mirrored(path):
    """Change the sign of x in both forms of a stored file and nothing else, as a faulty export does."""
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, :3] *= -1
    nib.save(nib.Nifti1Image(np.array(image.dataobj), affine), path)


def test_a_label_whose_header_lies_elsewhere_is_paired_by_index_where_the_scan_agrees(tmp_path, put_lits_case, opened):
    scan = put_lits_case(tmp_path / "lits", 0, codes="RAS")
    mirrored(tmp_path / "lits" / "segmentation-0.nii")
    dataset = opened(LiTS, tmp_path)
    case = dataset.load("volume-0")
    np.testing.assert_array_equal(case.roi, scan.labels > 0)
    np.testing.assert_array_equal(dataset.load_truth("volume-0").lesion, scan.labels == 2)
    (note,) = [note.text for note in case.notes if note.level == "warning"]
    assert "segmentation-0.nii is stored as LAS, its image as RAS" in note


def test_so_is_a_mask_of_lesions_alone(tmp_path, put_nifti, chest, opened):
    ct, lungs = chest((12, 20, 24))
    lesion = np.zeros(lungs.shape, np.uint8)
    lesion[4:7, 8:11, 5:8] = 1
    ct[lesion > 0] = -300
    for folder, array in (("COVID-19-CT-Seg_20cases", ct), ("Lung_Mask", lungs), ("Infection_Mask", lesion)):
        put_nifti(tmp_path / folder / "coronacases_001.nii.gz", array)
    mirrored(tmp_path / "Infection_Mask" / "coronacases_001.nii.gz")
    dataset = opened(Coronacases, tmp_path)
    np.testing.assert_array_equal(dataset.load_truth("coronacases_001").lesion, lesion > 0)
    (note,) = [n.text for n in dataset.load("coronacases_001").notes if n.text.startswith("coronacases_001.nii.gz is")]
    assert note.endswith("their headers place them apart; paired index by index")


def test_and_refused_where_its_own_axes_fit_better(tmp_path, put_nifti, put_lits_case, opened):
    scan = put_lits_case(tmp_path / "lits", 0, codes="RAS")
    path = put_nifti(tmp_path / "lits" / "segmentation-0.nii", scan.labels, codes="LPS")
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += 30
    nib.save(nib.Nifti1Image(np.array(image.dataobj), affine), path)
    for read in (opened(LiTS, tmp_path).load, opened(LiTS, tmp_path).load_truth):
        with pytest.raises(DataError, match=r"stored as LPS, its image as RAS.* HU index by index and by .* --exclude"):
            read("volume-0")


def test_the_outline_of_a_label_follows_edges_where_it_lies_right(abdomen):
    right = edge_step(abdomen.image, abdomen.labels > 0)
    for axes in ((2,), (1,), (1, 2), (0, 1, 2)):
        assert right > 2 * edge_step(abdomen.image, np.flip(abdomen.labels > 0, axes))
    assert edge_step(abdomen.image, np.zeros(abdomen.image.shape, bool)) == 0


def two_forms(path, sform_flips=()):
    """Give a file an sform whose stored axes ``sform_flips`` run the other way; the qform stays right."""
    image = nib.load(path)
    wrong = image.affine.copy()
    wrong[:, list(sform_flips)] *= -1
    image.set_sform(wrong, 1)
    image.set_qform(image.get_qform(), 1)
    data = bytearray(path.read_bytes())
    image.header["vox_offset"] = 352
    data[:348] = image.header.binaryblock
    path.write_bytes(data)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_anatomy_decides_between_two_forms_that_name_other_axes(tmp_path, put_lits_case, opened, axes):
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


def test_two_forms_are_refused_where_no_anatomy_tells(tmp_path, put_lits_case, opened, monkeypatch):
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


def test_a_volume_on_its_other_axes(tmp_path, abdomen, put_nifti):
    path = put_nifti(tmp_path / "ct.nii", abdomen.image, codes="SAR")
    two_forms(path, (1,))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.on(volume.grid.other()).data, abdomen.image)
    np.testing.assert_array_equal(volume.data, abdomen.image[:, ::-1])
    with pytest.raises(ValueError, match="no rival"):
        read_grid(put_nifti(tmp_path / "plain.nii", abdomen.image)).other()
