"""What a case is like: volumes, noise and the contrast of lesions with the organ near them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from uasbench.benchmark.scoring.case_facts import case_facts, noise
from uasbench.benchmark.scoring.lesions import Components

SPACING = (5.0, 2.0, 2.0)
SHAPE = (6, 24, 24)


def facts(image, organ, lesion, spacing=SPACING):
    return case_facts(image, organ, Components.of(lesion), lesion.any(axis=(1, 2)), spacing)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([(5.0, 2.0, 2.0), (3.0, 1.3, 0.9)]))
def test_contrast_and_volume_are_those_of_a_search_lesion_by_lesion(seed, number, spacing):
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 20, SHAPE).astype(np.float32)
    organ = ndimage.binary_dilation(rng.random(SHAPE) < 0.02, iterations=3)
    lesion = np.zeros(SHAPE, bool)
    for centre, size in zip(rng.integers(0, SHAPE, (number, 3)), rng.integers(1, 4, (number, 3)), strict=True):
        lesion[tuple(slice(max(0, c - s), c + s) for c, s in zip(centre, size, strict=True))] = True
    lesion &= organ
    found, parts = facts(image, organ, lesion, spacing), Components.of(lesion)
    count, outside, ml = len(parts), organ & ~lesion, np.prod(spacing) / 1000
    inside = [np.zeros(SHAPE, bool) for _ in range(count)]
    for k in range(count):
        inside[k][tuple(parts.voxels[parts.owners == k].T)] = True
    apart = np.array([ndimage.distance_transform_edt(~one, spacing) for one in inside]).reshape(count, *SHAPE)
    within = outside & (apart.min(axis=0, initial=np.inf) <= 10)
    nearest = apart <= apart.min(axis=0, initial=np.inf) + 1e-9  # several of them where they are equally far
    assert found.lesions is not None
    assert len(found.lesions) == count
    for one, own, owned in zip(found.lesions, inside, within & nearest, strict=True):
        assert one.ml == pytest.approx(own.sum() * ml)
        if (nearest.sum(axis=0)[owned] == 1).all():
            near = image[own].mean() - image[owned].mean() if owned.any() else None
            assert one.contrast_hu == (None if near is None else pytest.approx(near, abs=1e-3))
    total = image[lesion].mean() - image[within].mean() if within.any() else None
    assert found.contrast_hu == (None if total is None else pytest.approx(total, abs=1e-3))
    assert found.organ_ml == pytest.approx(organ.sum() * ml)
    assert found.lesion_ml == pytest.approx(lesion.sum() * ml)
    assert (found.slices, found.lesion_slices) == (organ.any(axis=(1, 2)).sum(), lesion.any(axis=(1, 2)).sum())


def test_a_lesion_is_compared_with_the_organ_within_ten_millimetres():
    image, organ, lesion = np.full(SHAPE, 100.0), np.ones(SHAPE, bool), np.zeros(SHAPE, bool)
    lesion[2:4, 10:13, 10:13] = True
    image[lesion] = 60
    near = (ndimage.distance_transform_edt(~lesion, SPACING) <= 10) & ~lesion
    image[near] += 7
    found = facts(image, organ, lesion)
    assert found.contrast_hu == pytest.approx(-47)
    assert found.lesions is not None
    assert found.lesions[0].contrast_hu == pytest.approx(-47)
    assert facts(image, lesion, lesion).contrast_hu is None  # nothing but lesion
    assert facts(image, organ, lesion & False).contrast_hu is None
    assert facts(image, organ, lesion & False).lesions == []


def test_noise_is_that_of_the_organ_and_no_vessel_changes_it():
    rng = np.random.default_rng(0)
    hu = rng.normal(100, 20, 20_000)
    assert noise(hu) == pytest.approx(20, rel=0.03)
    hu[:1000] = 3000
    assert noise(hu) == pytest.approx(20, rel=0.1)
    assert noise(np.empty(0)) is None


def test_without_voxel_labels_there_are_slices_and_an_organ():
    organ, shown = np.ones(SHAPE, bool), np.arange(6) < 2
    organ[0] = False
    found = case_facts(None, organ, None, shown, SPACING)
    assert (found.slices, found.lesion_slices, found.lesion_ml, found.lesions) == (5, 1, None, None)
