"""Planted lesions: inside the organ, of the size and contrast that the law says, the same for the same numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from uasbench.datasets.planted import lesions
from uasbench.datasets.planted.lesions import grow


def organ(shape, spacing, noise=10.0):
    """A ball of an organ of 100 HU in air."""
    place = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij"), -1) * spacing
    roi = (place**2).sum(-1) < (0.4 * np.min(np.multiply(shape, spacing))) ** 2
    image = np.where(roi, 100.0, -1000.0) + np.random.default_rng(1).normal(0, noise, shape)
    return image.astype(np.float32), roi


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(st.floats(0.7, 6), st.floats(0.6, 3), st.floats(0.6, 3)))
def test_lesions_stay_in_the_organ_and_change_nothing_else(seed, spacing):
    image, roi = organ((16, 40, 44), spacing)
    grown = grow(image, roi, spacing, np.random.default_rng(seed))
    assert grown.lesion.any()
    assert not (grown.lesion & ~roi).any()
    assert np.array_equal(grown.image[~roi], image[~roi])
    assert grown.image.dtype == np.float32
    again = grow(image, roi, spacing, np.random.default_rng(seed))
    assert np.array_equal(again.image, grown.image)
    assert np.array_equal(again.lesion, grown.lesion)


def test_sizes_and_contrasts_are_those_of_the_law(monkeypatch):
    monkeypatch.setattr(lesions, "MOST", 1)
    noise, spacing = 10.0, (2.0, 2.0, 2.0)
    image, roi = organ((64, 64, 64), spacing, noise)
    volumes, contrasts = [], []
    for seed in range(60):
        grown = grow(image, roi, spacing, np.random.default_rng(seed))
        change = (grown.image - image)[ndimage.binary_erosion(grown.lesion)]
        if change.size > 30:
            contrasts.append(change.mean() / noise)
        if not (ndimage.binary_dilation(grown.lesion) & ~roi).any():  # not cut off
            volumes.append(grown.lesion.sum() * np.prod(spacing))
    radii = (3 * np.array(volumes) / (4 * np.pi)) ** (1 / 3)
    assert radii.min() > 2.5
    assert radii.max() < 18.5
    assert np.ptp(np.log(radii)) > 1
    sizes = np.abs(contrasts)
    assert 0.4 < sizes.min() < sizes.max() < 3
    assert {-1, 1} == set(np.sign(contrasts))


def test_a_lesion_that_no_voxel_holds_is_one_voxel():
    image, roi = organ((8, 20, 20), (20.0, 8.0, 8.0))
    for seed in range(10):
        assert grow(image, roi, (20.0, 8.0, 8.0), np.random.default_rng(seed)).lesion.any()


@pytest.mark.parametrize("level", [0.0, 50.0])
def test_an_organ_without_any_spread_gets_lesions_too(level):
    image, roi = np.full((6, 20, 20), level, np.float32), np.ones((6, 20, 20), bool)
    grown = grow(image, roi, (5.0, 2.0, 2.0), np.random.default_rng(0))
    assert (grown.image != image)[grown.lesion].any()
