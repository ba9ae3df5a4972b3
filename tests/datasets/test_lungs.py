"""Classical lung segmentation on an analytic chest, its morphology, and the masks of real scans."""

import csv
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from uasbench.datasets.reading.volume_io import read_labels, read_volume
from uasbench.datasets.roi.lungs import LEFT, RIGHT, lung_labels, segment_lungs
from uasbench.datasets.roi.morphology import close, dilate, erode

SPACING = (3.0, 2.0, 2.0)
MIDDLE = 184.0  # mm, of a slice of 368 mm


@dataclass(frozen=True)
class Chest:
    """CT in HU and what is where, all (z, y, x)."""

    image: np.ndarray
    left: np.ndarray
    right: np.ndarray
    trachea: np.ndarray
    table: np.ndarray
    gas: np.ndarray

    @property
    def lungs(self):
        return self.left | self.right


def make_chest(*, seed=0, bridge=False, spacing=SPACING, gullet=False):
    """Body, two lungs with vessels, trachea with main bronchi, spine, bowel gas, and a table with foam inside."""
    rng = np.random.default_rng(seed)
    shape = tuple(round(length / step) for length, step in zip((240.0, 300.0, 368.0), spacing, strict=True))
    z, y, x = (
        ((np.arange(n) + 0.5) * step).reshape([-1 if a == b else 1 for b in range(3)])
        for a, (n, step) in enumerate(zip(shape, spacing, strict=True))
    )
    x = x - MIDDLE
    image = np.full(shape, -1000.0)
    body = ((y - 130) / 100) ** 2 + (x / 150) ** 2 < 1
    body = np.broadcast_to(body, shape)
    shell = np.broadcast_to((abs(y - 255) < 20) & (abs(x) < 150), shape)
    table = np.broadcast_to((abs(y - 255) < 16) & (abs(x) < 146), shape)

    def lung(side):
        return ((x - side * 72) / 58) ** 2 + ((y - 130) / 80) ** 2 + ((z - 115) / 100) ** 2 < 1

    left, right = lung(1), lung(-1)
    trachea = (x**2 + (y - 105) ** 2 < 9**2) & (z > 140)
    bronchi = (abs(z - 140) < 6) & ((y - 105) ** 2 < 6**2) & (abs(x) < 40)
    gas = (x - 60) ** 2 + (y - 100) ** 2 + (z - 20) ** 2 < 20**2
    gas = gas & np.logical_not(ndimage.binary_dilation(left, iterations=3))
    image[body] = 40
    image[shell], image[table] = 0, -880
    lungs = left | right
    image[lungs] = -850
    vessels = lungs & ((((y - 130) ** 2 + (z - 115) ** 2) < 4**2) | (((abs(x) - 72) ** 2 + (y - 120) ** 2) < 4**2))
    image[vessels] = 30
    image[np.broadcast_to(((y - 195) ** 2 + x**2) < 18**2, shape)] = 400
    image[(bronchi & ~lungs) | trachea] = -1000
    if gullet:
        image[np.broadcast_to(((y - 130) ** 2 + x**2) < 5**2, shape) & (z > 175)] = -1000
    image[gas] = -1000
    if bridge:
        image[(abs(x) < 30) & (abs(y - 70) < 6) & (abs(z - 130) < 10)] = -850
    image += rng.normal(0, 15, shape)
    return Chest(image.astype(np.float32), left, right, trachea, table, gas)


@pytest.fixture(scope="module")
def chest():
    return make_chest()


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def consolidated(chest, side, radius=16.0):
    """Return the image with a ball of soft tissue at the outer pleura of one lung, and the ball inside the lung."""
    z, y, x = np.indices(chest.image.shape)
    centre = (115.0, 130.0, MIDDLE + side * 126)
    ball = sum(((i + 0.5) * s - c) ** 2 for i, s, c in zip((z, y, x), SPACING, centre, strict=True)) < radius**2
    ball &= chest.lungs
    return np.where(ball, np.float32(30), chest.image), ball


@pytest.mark.parametrize("trouble", ["", "bridge", "gullet"])
def test_both_lungs_are_found_with_their_vessels_and_without_trachea_table_and_bowel_gas(trouble):
    """Also where the lungs touch, and where an airy gullet could be taken for the trachea."""
    chest = make_chest(**({trouble: True} if trouble else {}))
    before = chest.image.copy()
    labels = lung_labels(chest.image, SPACING)
    np.testing.assert_array_equal(chest.image, before)
    assert labels.dtype == np.uint8
    for side, lung in ((LEFT, chest.left), (RIGHT, chest.right)):
        assert dice(labels == side, lung) > (0.96 if trouble == "bridge" else 0.97)
    mirrored = lung_labels(np.ascontiguousarray(chest.image[:, :, ::-1]), SPACING)
    assert dice(mirrored == RIGHT, chest.left[:, :, ::-1]) > 0.96
    found = labels > 0
    for other in (chest.trachea & ~chest.lungs, chest.table, chest.gas):
        assert not (found & other).any()
    dense = chest.lungs & (chest.image > -200) & ndimage.binary_erosion(chest.lungs, iterations=3)
    assert dense.sum() > 500
    assert (found & dense).sum() > 0.98 * dense.sum()


@pytest.mark.parametrize("side", [-1, 1])
def test_consolidation_at_the_pleura_stays_in(chest, side):
    image, ball = consolidated(chest, side)
    found = segment_lungs(image, SPACING)
    assert (found & ball).sum() > 0.7 * ball.sum()
    assert dice(found, chest.lungs) > 0.97


def test_a_lung_near_the_edge_of_the_slice_does_not_grow_to_it(chest):
    cut = 25  # voxels; 4 mm of chest wall are left at the patient's right
    image, lungs = chest.image[:, :, cut:].copy(), chest.lungs[:, :, cut:]
    image[:, :, 0] = np.where(lungs[:, :, 0], 40, image[:, :, 0])
    found = segment_lungs(image, SPACING)
    assert dice(found, lungs) > 0.97
    assert found[:, :, 0].sum() < 20


def test_one_lung_alone(chest):
    image = np.where(chest.left, np.float32(40), chest.image)
    labels = lung_labels(image, SPACING)
    assert dice(labels == RIGHT, chest.right) > 0.97
    assert (labels == LEFT).sum() < 0.01 * chest.left.sum()


@pytest.mark.parametrize("part", [slice(5, 30), slice(25, 50), slice(40, 75)])
def test_a_stack_that_ends_inside_the_chest_keeps_its_end_slices(chest, part):
    found = segment_lungs(chest.image[part], SPACING)
    truth = chest.lungs[part]
    assert dice(found, truth) > 0.96
    for end in (0, -1):
        if truth[end].sum() > 500:
            assert dice(found[end], truth[end]) > 0.93


def test_a_fine_grid_of_odd_size_is_segmented_coarser_and_comes_back_whole():
    spacing = (6.0, 0.9, 0.9)
    chest = make_chest(spacing=spacing)
    cut = (slice(None), slice(None, -(1 - chest.image.shape[1] % 2) or None), slice(1, chest.image.shape[2] // 2 * 2))
    image, lungs = np.round(chest.image[cut]).astype(np.int16), chest.lungs[cut]
    assert image.shape[1] % 2 == image.shape[2] % 2 == 1
    found = segment_lungs(image, spacing)
    assert found.dtype == bool
    assert found.shape == image.shape
    assert dice(found, lungs) > 0.97


@pytest.mark.parametrize("value", [-1024, 0, 40])
def test_nothing_to_find(value):
    image = np.full((6, 40, 40), value, np.float32)
    assert not segment_lungs(image, (3.0, 5.0, 5.0)).any()


masks = hnp.arrays(bool, st.tuples(*(st.integers(1, 9) for _ in range(3))), elements=st.booleans())
steps = st.tuples(*(st.sampled_from([0.7, 1.0, 1.5, 2.5]) for _ in range(3)))


@given(masks, steps, st.sampled_from([0.6, 1.0, 2.6, 4.1]))
def test_dilation_is_the_exact_distance(mask, spacing, radius):
    expected = ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius * (1 + 1e-09) if mask.any() else mask
    np.testing.assert_array_equal(dilate(mask, radius, spacing), expected)
    np.testing.assert_array_equal(erode(~mask, radius, spacing), ~expected)


@given(masks, steps, st.sampled_from([1.0, 2.6, 4.1]))
def test_closing_only_adds_and_grows_with_its_input(mask, spacing, radius):
    closed = close(mask, radius, spacing)
    assert not (mask & ~closed).any()
    more = mask.copy()
    more[tuple(n // 2 for n in mask.shape)] = True
    assert not (closed & ~close(more, radius, spacing)).any()


def _luna(real_ct, uid):
    import SimpleITK as sitk

    def read(path):
        image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
        return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]

    image, spacing = read(next((real_ct / "luna16").glob(f"subset*/{uid}.mhd")))
    labels, _ = read(real_ct / "luna16" / "seg-lungs-LUNA16" / f"{uid}.mhd")
    return np.clip(image, -1024, 3071), spacing, np.isin(labels, (3, 4)), labels == 5


@pytest.mark.real_data
def test_masks_of_the_healthy_scans(real_ct):
    with (real_ct / "luna16_series_key.csv").open(encoding="utf-8") as file:
        uids = [next(v for v in row.values() if v.startswith("2.25.")) for row in csv.DictReader(file)]
    assert len(uids) == 4
    for uid in uids:
        image, spacing, lungs, airway = _luna(real_ct, uid)
        found = segment_lungs(image, spacing)
        fine = len(image) == 154
        assert dice(found, lungs) > (0.99 if fine else 0.97), uid
        assert not fine or (found & airway).sum() < 0.2 * airway.sum()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("image", "mask", "least"),
    [
        ("covid-ct-md/P001.nii.gz", "covid-ct-md/lung_mask/P001.nii.gz", 0.985),
        ("covid-ct-md/cap001.nii.gz", "covid-ct-md/lung_mask/cap001.nii.gz", 0.98),
        *(
            (f"coronacases/COVID-19-CT-Seg_20cases/{n}.nii.gz", f"coronacases/Lung_Mask/{n}.nii.gz", 0.98)
            for n in ("coronacases_001", "coronacases_002", "coronacases_003")
        ),
    ],
)
def test_masks_of_the_diseased_scans(real_ct, image, mask, least):
    volume = read_volume(real_ct / image)
    labels = read_labels(real_ct / mask, volume).data
    found = lung_labels(volume.data, volume.spacing)
    assert dice(found > 0, labels > 0) > least
    for side in (LEFT, RIGHT):
        assert dice(found == side, labels == side) > least - 0.02
    if "Lung_Mask" in mask:
        lesion = read_labels(real_ct / mask.replace("Lung_Mask", "Infection_Mask"), volume).data > 0
        assert ((found > 0) & lesion).sum() > 0.99 * lesion.sum()
