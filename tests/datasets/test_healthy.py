from dataclasses import replace

import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet, Part
from uasbench.datasets.views.slice_view import View
from uasbench.datasets.views.volume_view import VolumeView, apply_view

VIEW = View(size=24)


def make_case(name, seed, depth=8, patient=None):
    rng = np.random.default_rng(seed)
    roi = np.zeros((depth, 30, 32), bool)
    roi[2:-1, 4:22, 6:25] = True
    image = rng.integers(-200, 250, roi.shape).astype(np.float32)
    return Case(name, patient or name, image, (2.0, 0.8, 0.8), roi)


@pytest.fixture
def cases():
    return [make_case("a", 0), make_case("b", 1, 12), make_case("c", 2, 6, "a")]


@pytest.fixture
def prepared(cases, stored):
    """The same cases in a store."""
    return [stored(case) for case in cases]


def test_nothing_to_learn_from_is_refused(cases):
    with pytest.raises(DataError, match="no healthy scans"):
        HealthySet([])
    with pytest.raises(DataError, match="region of interest"):
        HealthySet([Part(cases[0], (0, 2))]).array(VIEW)


def test_cases_and_patients(cases):
    healthy = HealthySet([Part(cases[0]), Part(cases[1], (3, 7)), Part(cases[2])])
    assert len(healthy) == 3
    assert healthy.patients == ("a", "b")
    assert [(case.id, len(case.image)) for case in healthy] == [("a", 8), ("b", 4), ("c", 6)]
    np.testing.assert_array_equal(list(healthy)[1].image, cases[1].image[3:7])


def test_stack_holds_the_viewed_slices_in_order(cases):
    stack = HealthySet.from_cases(cases).array(VIEW)
    seen = [apply_view(case, VIEW) for case in cases]
    images, rois = stack.take(range(len(stack)))
    np.testing.assert_array_equal(images, np.concatenate([v.image for v in seen]))
    np.testing.assert_array_equal(rois, np.concatenate([v.roi for v in seen]))
    np.testing.assert_array_equal(stack.case_of, np.repeat([0, 1, 2], [5, 9, 3]))
    np.testing.assert_array_equal(stack.z_of, np.concatenate([v.geometry.slices for v in seen]))
    assert (stack.shape, stack.dtype) == ((17, 24, 24), np.float32)


def test_z_range_chooses_native_slices(cases):
    stack = HealthySet([Part(cases[1], (4, 7)), Part(cases[2], (0, 2)), Part(cases[0], (0, 4))]).array(VIEW)
    assert stack.z_of.tolist() == [4, 5, 6, 2, 3]
    assert stack.case_of.tolist() == [0, 0, 0, 2, 2]
    np.testing.assert_array_equal(stack.take([1])[0][0], apply_view(cases[1].crop_z(5, 6), VIEW).image[0])


@pytest.mark.parametrize("spacing", [2.0, 0.7, 3.1])
def test_slices_of_a_volume_come_from_native_slices_with_a_region_alone(cases, spacing):
    cases[1].roi[6] = False
    view = VolumeView(size=16, spacing=(spacing, 0.8, 0.8), reduce=2, window=(-200.0, 250.0))
    stack = HealthySet([Part(cases[0]), Part(cases[1], (3, 10))]).array(view)
    _, rois = stack.take(range(len(stack)))
    assert rois.any(axis=(1, 2)).all()
    for number, (case, wanted) in enumerate(zip(cases, ({2, 3, 4, 5, 6}, {3, 4, 5, 7, 8, 9}), strict=False)):
        geometry = apply_view(case, view).geometry
        reads = [set(range(*read)) for read in geometry.reads]
        expected = [z for z, read in zip(geometry.slices, reads, strict=True) if read <= wanted]
        assert 0 < len(expected) <= len(reads)
        assert stack.z_of[stack.case_of == number].tolist() == expected
        np.testing.assert_array_equal(stack.extent(number), apply_view(case, view).roi.any(axis=0))


def test_take_any_order_with_repeats_and_negative_indices(cases):
    stack = HealthySet.from_cases(cases).array(replace(VIEW, dtype="uint8"))
    images, rois = stack.take(np.array([16, 0, 5, 5, -1]))
    assert (images.dtype, rois.dtype) == (np.uint8, bool)
    np.testing.assert_array_equal(images[0], images[4])
    np.testing.assert_array_equal(images[2], images[3])
    np.testing.assert_array_equal(images[1], apply_view(cases[0], replace(VIEW, dtype="uint8")).image[0])
    assert stack.take([])[0].shape == (0, 24, 24)
    kept = images[0].copy()
    images[:] = 7
    np.testing.assert_array_equal(stack.take([16])[0][0], kept)


@pytest.mark.parametrize("indices", [[17], [0.5], [[0]], 3])
def test_take_refuses_what_is_no_list_of_slices(cases, indices):
    with pytest.raises(IndexError):
        HealthySet.from_cases(cases).array(VIEW).take(indices)


def test_prepared_and_in_memory_cases_are_the_same(cases, prepared):
    memory = HealthySet([Part(cases[0]), Part(cases[1], (3, 9))])
    stored = HealthySet([Part(prepared[0]), Part(prepared[1], (3, 9))])
    a, b = memory.array(VIEW), stored.array(VIEW)
    for left, right in zip(a.take(range(len(a))), b.take(range(len(b))), strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(a.z_of, b.z_of)
    for left, right in zip(memory, stored, strict=True):
        np.testing.assert_array_equal(left.image, right.image)
        np.testing.assert_array_equal(left.roi, right.roi)
        assert right.image.dtype == np.float32
    assert memory.patients == stored.patients
