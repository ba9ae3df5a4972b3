"""Region growing and the lesion mask against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from uasbench.methods.normalcy.parts.growing import LIMIT, SEED, MeanFilter, grown, lesion_mask

TAU = 1 / 3
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=20)
KERNELS = st.sampled_from([1, 3, 5, 7, 9])
DIMS = st.sampled_from([2, 3])


def grow(seeds, limit):
    return grown(seeds * SEED | limit * LIMIT)


def lesions(image, roi, healthy, *, seed_kernel=9, seed_threshold=0.2, limit_kernel=7, grow=True, dims=3, **readings):
    """The lesion mask with the settings of NormNet where no others are given."""
    seeds = MeanFilter(seed_kernel, seed_threshold, dims, readings.get("seed_reading", "binary"))
    limit = MeanFilter(limit_kernel, 0.15, dims, readings.get("reading", "intensity"))
    return lesion_mask(image, roi, healthy, TAU, seeds, limit if grow else None)


def masks(shape, share=0.5):
    return st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random(shape) < share)


@st.composite
def pairs(draw):
    """Two masks of one shape, sparse to dense."""
    shape = draw(SHAPES)
    return tuple(draw(masks(shape, draw(st.sampled_from([0.02, 0.2, 0.5, 0.8])))) for _ in range(2))


@st.composite
def scans(draw):
    """An image with a bright lump, an ROI, healthy voxels and the settings of the post-processing."""
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=3, max_side=14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = ndimage.gaussian_filter(rng.standard_normal(shape), draw(st.sampled_from([0.5, 1.5])))
    image = np.clip(0.25 + 0.25 * image / image.std(), 0, 1).astype(np.float32)
    roi = rng.random(shape) < draw(st.sampled_from([0.7, 1.0]))
    healthy = rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.6]))
    options = {
        "seed_kernel": draw(KERNELS),
        "limit_kernel": draw(KERNELS),
        "seed_threshold": draw(st.sampled_from([0.1, 0.2, 0.3])),
        "grow": draw(st.booleans()),
        "dims": draw(DIMS),
        "reading": draw(st.sampled_from(["intensity", "binary"])),
        "seed_reading": draw(st.sampled_from(["intensity", "binary"])),
    }
    return image, roi, healthy, options


def box_mean(values: np.ndarray, kernel: int, dims: int) -> np.ndarray:
    size = (kernel if dims == 3 else 1, kernel, kernel)
    return ndimage.uniform_filter(values.astype(np.float64), size, mode="constant")


def plain(image, roi, healthy, options, margin):
    """The textbook post-processing with thresholds moved by ``margin``."""
    left = roi & ~healthy
    bright = left & (image >= np.float32(TAU))
    seed_values = np.where(bright, image, 0) if options["seed_reading"] == "intensity" else bright
    limit_values = np.where(left, image, 0) if options["reading"] == "intensity" else left
    seeds = box_mean(seed_values, options["seed_kernel"], options["dims"]) > options["seed_threshold"] + margin
    limit = box_mean(limit_values, options["limit_kernel"], options["dims"]) > 0.15 + margin
    seeds, limit = seeds & roi, limit & roi
    return ndimage.binary_propagation(seeds, mask=limit) if options["grow"] else seeds


@given(pairs())
def test_growing_is_the_propagation_of_scipy(masks):
    seeds, limit = masks
    grown = grow(seeds, limit)
    assert grown.dtype == bool
    assert np.array_equal(grown, ndimage.binary_propagation(seeds, mask=limit))


def test_growing_follows_a_winding_path_through_rows_and_slices():
    path = np.zeros((3, 41, 40), bool)
    path[0, ::2] = path[2, ::2] = True
    path[::2, 1::4, -1] = path[::2, 3::4, 0] = path[1, -1, -1] = True
    seeds = np.zeros_like(path)
    seeds[0, 0, 0] = True
    assert np.array_equal(grow(seeds, path), path)
    path[1] = False
    assert np.array_equal(grow(seeds, path)[0], path[0])
    assert not grow(seeds, path)[1:].any()


@settings(deadline=None, max_examples=150)
@given(scans())
def test_the_lesion_mask_is_the_plain_one_up_to_ties(scan):
    image, roi, healthy, options = scan
    ours = lesions(image, roi, healthy, **options)
    assert not (ours & ~plain(image, roi, healthy, options, -1e-6)).any()
    assert not (plain(image, roi, healthy, options, 1e-6) & ~ours).any()


@pytest.mark.parametrize(("voxels", "found"), [(7, False), (8, True)])
def test_a_mean_at_the_threshold_is_below_it(voxels, found):
    image = np.zeros((1, 5, 5), np.float32)
    image.reshape(-1)[:voxels] = 1
    kept = {"seed_kernel": 5, "seed_threshold": 0.28, "dims": 2, "grow": False}
    mask = lesions(image, np.ones(image.shape, bool), np.zeros(image.shape, bool), **kept)
    assert mask[0, 2, 2] == found


def test_plain_air_limits_growing_only_if_intensities_are_averaged():
    image = np.full((20, 40, 40), 0.05, np.float32)
    image[6:14, 6:14, 6:14] = 0.6
    image[6:14, 6:14, 14:20] = 0.25
    roi, healthy = np.ones(image.shape, bool), np.zeros(image.shape, bool)
    limited = lesions(image, roi, healthy)
    assert limited[10, 10, 10]
    assert limited[10, 10, 17]
    assert not limited[10, 10, 25:].any()
    assert lesions(image, roi, healthy, reading="binary").mean() > 0.9
    assert not lesions(image, roi, healthy, grow=False)[10, 10, 19]


def test_half_precision_views_and_other_memory_orders_give_the_same_mask():
    rng = np.random.default_rng(0)
    image = (ndimage.gaussian_filter(rng.random((12, 30, 20)), 1) * 2 - 0.5).clip(0, 1).astype(np.float16)
    roi, healthy = rng.random(image.shape) < 0.9, rng.random(image.shape) < 0.2
    mask = lesions(image.astype(np.float32), roi, healthy)
    assert 0 < mask.sum() < roi.sum()
    assert np.array_equal(lesions(image, roi, healthy), mask)
    assert np.array_equal(lesions(*(np.asfortranarray(a) for a in (image, roi, healthy))), mask)


def test_no_roi_gives_no_lesion_and_wrong_settings_are_refused():
    image, none = np.ones((3, 4, 5), np.float32), np.zeros((3, 4, 5), bool)
    assert not lesions(image, none, none).any()
    for wrong in ({"seed_kernel": 4}, {"limit_kernel": 33}, {"seed_threshold": 20}, {"dims": 4}, {"reading": "bright"}):
        with pytest.raises(ValueError, match=r"odd number of voxels, at most 31|between|choose 2 or 3, intensity"):
            lesions(image, ~none, none, **wrong)
    with pytest.raises(ValueError, match="volumes of one shape"):
        lesions(image, ~none, none[1:])
