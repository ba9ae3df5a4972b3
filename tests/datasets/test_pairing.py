"""Labels lie where their own headers say, in any storage; where headers contradict, the scan decides or refuses."""

import itertools
import re

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.coronacases import Coronacases
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.reading.geometry import Grid
from uasbench.datasets.reading.pairing import edge_step, placement
from uasbench.datasets.reading.volume_io import read_labels, read_volume

CODES = ["".join(codes) for order in itertools.permutations(("LR", "PA", "SI")) for codes in itertools.product(*order)]
SHAPE = (6, 7, 8)
RAS, LAS = np.diag([1.0, 2.0, 3.0, 1.0]), np.diag([-1.0, 2.0, 3.0, 1.0])
RAS[:3, 3] = LAS[:3, 3] = 5

AXES = [list(axes) for count in (1, 2, 3) for axes in itertools.combinations(range(3), count)]
HEADERS = st.one_of(
    st.none(),
    st.tuples(st.sampled_from(AXES), st.sampled_from(["sform", "qform"]), st.booleans()),
)
"""Which stored axes run the other way in which of the two forms, and whether that covers the same place."""


def storage(*dtypes):
    """How a file is stored: its axes, its type, what is wrong with its header."""
    return st.tuples(st.sampled_from(CODES), st.sampled_from(dtypes), HEADERS)


IMAGES, LABELS = storage("<i2", ">i4", "<f4", ">f8"), storage("u1", "<i2", ">i4", "<f4", "<f8")


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


@pytest.fixture
def store(put_nifti, two_forms):
    """Return ``store(path, array, storage)``."""

    def put(path, array, how):
        codes, dtype, wrong = how
        put_nifti(path, array.astype(dtype), codes=codes)
        if wrong is not None:
            two_forms(path, *wrong)

    return put


def same_or_refused(dataset, case_id, truth, contradicted):
    """Compare image, region and lesion with what is true; a refusal names a file, two values and the fix."""
    refused = re.compile(r"\S+\.nii(\.gz)?: .*(stored as|names the axes) .*\b[A-Z]{3}\b.* or \b[A-Z]{3}\b.*--exclude")
    try:
        case, lesion = dataset.load(case_id), dataset.load_truth(case_id).lesion
    except DataError as error:
        if not (contradicted and refused.match(str(error))):
            raise
        event("refused")
        return
    for found, right in zip((case.image, case.roi, lesion), truth, strict=True):
        np.testing.assert_array_equal(found, right)
    warned = [note.text for note in case.notes if note.level == "warning"]
    assert bool(warned) == contradicted, warned
    event("contradicted and right" if contradicted else "sound")


def any_liver(root, abdomen, store, opened, image, label):
    store(root / "lits" / "volume-0.nii", abdomen.image, image)
    store(root / "lits" / "segmentation-0.nii", abdomen.labels, label)
    truth = abdomen.image, abdomen.labels > 0, abdomen.labels == 2
    same_or_refused(opened(LiTS, root), "volume-0", truth, any(how[2] for how in (image, label)))


def any_chest(root, lungs, store, opened, *stored):
    files = zip(("COVID-19-CT-Seg_20cases", "Lung_Mask", "Infection_Mask"), lungs, stored, strict=True)
    for folder, array, how in files:
        store(root / folder / "coronacases_001.nii.gz", array, how)
    truth = lungs[0], lungs[1] > 0, lungs[2] > 0
    same_or_refused(opened(Coronacases, root), "coronacases_001", truth, any(how[2] for how in stored))


def drawn(examples, **strategies):
    """Run a test on so many drawn examples."""
    checks = [HealthCheck.function_scoped_fixture]
    limits = settings(max_examples=examples, deadline=None, suppress_health_check=checks)
    return lambda test: limits(given(**strategies)(test))


@drawn(60, image=IMAGES, label=LABELS)
def test_a_liver_in_any_storage_is_the_same_or_refused(tmp_path_factory, abdomen, store, opened, image, label):
    any_liver(tmp_path_factory.mktemp("liver"), abdomen, store, opened, image, label)


@pytest.mark.slow
@drawn(600, image=IMAGES, label=LABELS)
def test_many_livers(tmp_path_factory, abdomen, store, opened, image, label):
    any_liver(tmp_path_factory.mktemp("liver"), abdomen, store, opened, image, label)


@drawn(40, image=IMAGES, lung=LABELS, lesion=LABELS)
def test_a_chest_in_any_storage_is_the_same_or_refused(tmp_path_factory, lungs, store, opened, image, lung, lesion):
    any_chest(tmp_path_factory.mktemp("chest"), lungs, store, opened, image, lung, lesion)


@pytest.mark.slow
@drawn(300, image=IMAGES, lung=LABELS, lesion=LABELS)
def test_many_chests(tmp_path_factory, lungs, store, opened, image, lung, lesion):
    any_chest(tmp_path_factory.mktemp("chest"), lungs, store, opened, image, lung, lesion)


@pytest.fixture(scope="module")
def lungs(tmp_path_factory):
    """Image, lungs and infection of a patient of the lung phantom."""
    from uasbench.datasets.phantom.disk import phantom_root

    root = phantom_root(tmp_path_factory.mktemp("lungs"), anatomy="lung", seed=3, size="smoke")
    files = (root.rglob(f"{folder}/coronacases_001.nii*") for folder in ("*Seg_20cases", "Lung_Mask", "Infection_Mask"))
    image, *labels = (next(found) for found in files)
    volume = read_volume(image)
    return volume.data, *(read_labels(path, volume).data for path in labels)


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


def test_a_sound_label_beside_a_lost_image_header_is_a_matter_of_the_scan():
    lost = grid_of(RAS, trusted=False)
    for label in (grid_of(RAS), grid_of(LAS, trusted=False)):
        assert not placement(label, lost, "seg.nii").contested
    place = placement(grid_of(LAS), lost, "seg.nii")
    assert (place.contested, place.free, len(place.ways)) == (True, False, 9)
    assert "seg.nii is stored as LAS, its image as unknown axes (lost header)" in place.said[-1].text


def mirrored(path):
    """Change the sign of x in both forms of a stored file and nothing else, as a faulty export does."""
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, :3] *= -1
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj).copy(), affine), path)


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
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj).copy(), affine), path)
    for read in (opened(LiTS, tmp_path).load, opened(LiTS, tmp_path).load_truth):
        with pytest.raises(DataError, match=r"stored as LPS, its image as RAS.* HU index by index and by .* --exclude"):
            read("volume-0")


def test_the_outline_of_a_label_follows_edges_where_it_lies_right(abdomen):
    right = edge_step(abdomen.image, abdomen.labels > 0)
    for axes in ((2,), (1,), (1, 2), (0, 1, 2)):
        assert right > 2 * edge_step(abdomen.image, np.flip(abdomen.labels > 0, axes))
    assert edge_step(abdomen.image, np.zeros(abdomen.image.shape, bool)) == 0


@pytest.mark.parametrize("wrong", ["sform", "qform"])
@pytest.mark.parametrize("codes", ["RAI", "RPS", "LAS", "LPI"])
@pytest.mark.parametrize("file", ["label", "image"])
def test_one_wrong_form_is_found_by_the_scan(tmp_path, put_nifti, put_lits_case, two_forms, opened, file, codes, wrong):
    scan = put_lits_case(tmp_path / "lits", 0, codes="RAS")
    path = put_nifti(tmp_path / "lits" / "segmentation-0.nii", scan.labels, codes=codes)
    if file == "label":
        # The wrong form is the affine of the image.
        two_forms(path, [axis for axis in range(3) if codes[axis] != "RAS"[axis]], wrong, True)
        said = rf"segmentation-0\.nii is stored as ({codes} or RAS|RAS or {codes}), its image as RAS; paired as {codes}"
    else:
        two_forms(tmp_path / "lits" / "volume-0.nii", (0,), wrong)
        said = rf"segmentation-0\.nii is stored as {codes}, its image as (RAS or LAS|LAS or RAS); paired "
    dataset = opened(LiTS, tmp_path)
    case = dataset.load("volume-0")
    np.testing.assert_array_equal(case.image, scan.image)
    np.testing.assert_array_equal(case.roi, scan.labels > 0)
    np.testing.assert_array_equal(dataset.load_truth("volume-0").lesion, scan.labels == 2)
    assert any(re.match(said, note.text) for note in case.notes if note.level == "warning")


def test_a_label_of_its_own_order_beside_a_lost_image_header_is_refused(tmp_path, put_nifti, put_lits_case, opened):
    scan = put_lits_case(tmp_path / "lits", 0, codes="RAS", affine=np.eye(4))
    label = tmp_path / "lits" / "segmentation-0.nii"
    put_nifti(label, scan.labels, codes="RPI")
    with pytest.raises(
        DataError,
        match=r"stored as RPI, its image as unknown axes \(lost header\); .* index by index and by .*--exclude",
    ):
        opened(LiTS, tmp_path).load("volume-0")
    put_nifti(label, scan.labels, codes="RAS", affine=LAS)  # the voxels lie as those of the image
    np.testing.assert_array_equal(opened(LiTS, tmp_path).load("volume-0").roi, scan.labels > 0)


@pytest.mark.parametrize("wrong", ["sform", "qform"])
def test_lesions_whose_file_contradicts_itself_are_said_by_its_header_alone(tmp_path, store, lungs, opened, wrong):
    sound = "LPS", "<i2", None
    storages = (sound, sound, ("LAI", "u1", ([1, 2], wrong, True)))
    folders = "COVID-19-CT-Seg_20cases", "Lung_Mask", "Infection_Mask"
    for folder, array, how in zip(folders, lungs, storages, strict=True):
        store(tmp_path / folder / "coronacases_001.nii.gz", array, how)
    dataset = opened(Coronacases, tmp_path)
    np.testing.assert_array_equal(dataset.load_truth("coronacases_001").lesion, lungs[2] > 0)
    warned = [note.text for note in dataset.load("coronacases_001").notes if note.level == "warning"]
    assert warned[0].startswith("coronacases_001.nii.gz: the sform names the axes L")
    assert warned[1].endswith("its image as LPS; the scan decides how they are paired")


def test_where_every_way_gives_the_same_labels_nothing_is_refused(tmp_path, abdomen, put_nifti, two_forms):
    volume = read_volume(put_nifti(tmp_path / "ct.nii", abdomen.image))
    path = tmp_path / "seg.nii"
    for value in (0, 1):
        put_nifti(path, np.full_like(abdomen.labels, value))
        two_forms(path, (0, 1))
        assert (read_labels(path, volume).data == value).all()
    half = np.zeros_like(abdomen.labels)
    half[:, :, 16:] = 1  # its outline is the same when it is mirrored, its place is not
    put_nifti(path, half)
    two_forms(path, (0,))
    with pytest.raises(DataError, match=r"seg\.nii is stored as RPS or LPS, its image as LPS; across the outline"):
        read_labels(path, volume)
