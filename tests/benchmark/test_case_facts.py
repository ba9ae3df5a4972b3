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


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_contrast_and_volume_are_those_of_a_search_lesion_by_lesion(seed, number):
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 20, SHAPE).astype(np.float32)
    organ = ndimage.binary_dilation(rng.random(SHAPE) < 0.02, iterations=3)
    lesion = np.zeros(SHAPE, bool)
    for centre in rng.integers(0, SHAPE, (number, 3)):
        lesion[tuple(slice(max(0, c - 1), c + 2) for c in centre)] = True
    lesion &= organ
    found = facts(image, organ, lesion)
    labels, count = ndimage.label(lesion, np.ones((3, 3, 3)))
    outside = organ & ~lesion
    apart = [ndimage.distance_transform_edt(labels != k + 1, SPACING) for k in range(count)]
    assert found.lesions is not None
    assert len(found.lesions) == count
    expected = []
    for k in range(count):
        inside = labels == k + 1
        others = [apart[j] for j in range(count) if j != k]
        sole = np.all([apart[k] < other for other in others], axis=0) if others else np.ones(SHAPE, bool)
        near = outside & (apart[k] <= 10) & sole
        tied = any(((apart[k] == other) & outside & (apart[k] <= 10)).any() for other in others)
        expected.append((inside.sum() * 0.02, tied, image[inside].mean() - image[near].mean() if near.any() else None))
    mine = sorted(found.lesions, key=lambda lesion: lesion.ml)
    for one, (ml, tied, contrast) in zip(mine, sorted(expected, key=lambda e: e[0]), strict=True):
        assert one.ml == pytest.approx(ml)
        if count == 1 and not tied:
            assert one.contrast_hu == (None if contrast is None else pytest.approx(contrast, abs=1e-3))
    assert found.organ_ml == pytest.approx(organ.sum() * 0.02)
    assert found.lesion_ml == pytest.approx(lesion.sum() * 0.02)
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
