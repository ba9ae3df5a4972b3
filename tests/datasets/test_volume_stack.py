import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet, Part
from uasbench.datasets.views.slice_view import View
from uasbench.datasets.views.volume_stack import SliceRun, VolumeStack
from uasbench.datasets.views.volume_view import VolumeView, apply_view

NATIVE = VolumeView(size=32, resample_z=False)


def make_case(name="a", seed=0, depth=12, dropped=(), spacing=(2.5, 0.8, 0.8)):
    """A case whose region begins at slice 1 and ends before the last slice."""
    rng = np.random.default_rng(seed)
    roi = np.zeros((depth, 26, 28), bool)
    roi[1:-1, 4:22, 6:25] = True
    roi[list(dropped)] = False
    image = rng.integers(-900, 200, roi.shape).astype(np.float32)
    return Case(name, name, image, spacing, roi)


def test_dropped_slices_end_runs():
    stack = HealthySet.from_cases([make_case(), make_case("b", 1, dropped=(4, 7, 8))]).volumes(NATIVE)
    assert len(stack) == 2
    assert stack.runs == (SliceRun(0, 0, 10), SliceRun(1, 0, 3), SliceRun(1, 4, 6), SliceRun(1, 8, 10))
    assert [len(run) for run in stack.runs] == [10, 3, 2, 2]


@pytest.mark.parametrize("z", [1.0, 2.5, 4.0])
def test_resampled_slices_of_runs_read_slices_with_a_region_only(z):
    case = make_case(depth=20, dropped=(9,))
    view = VolumeView(size=32, spacing=(z, 0.8, 0.8))
    stack = HealthySet.from_cases([case]).volumes(view)
    assert len(stack.runs) == 2
    reads = apply_view(case, view).geometry.reads
    with_roi = case.roi.any(axis=(1, 2))
    expected = np.array([with_roi[start:stop].all() for start, stop in reads])
    found = np.zeros(len(reads), bool)
    for run in stack.runs:
        found[run.start : run.stop] = True
    np.testing.assert_array_equal(found, expected)


@given(st.sets(st.integers(2, 22)), st.sampled_from([1.0, 2.5, 3.3]), st.booleans())
def test_values_of_dropped_slices_never_reach_a_run(dropped, z, resample_z):
    case = make_case(depth=25, dropped=dropped)
    image = case.image.copy()
    image[list(dropped)] = 100
    other = Case("a", "a", image, case.spacing, case.roi)
    view = VolumeView(size=32, spacing=(z, 0.8, 0.8), resample_z=resample_z, mask_roi=False)
    one, two = (HealthySet.from_cases([c]).volumes(view) for c in (case, other))
    assert one.runs == two.runs
    for run in one.runs:
        np.testing.assert_array_equal(one.image(0)[run.start : run.stop], two.image(0)[run.start : run.stop])
        assert one.roi(0)[run.start : run.stop].any(axis=(1, 2)).all()
    for a, b in zip(one.runs[:-1], one.runs[1:], strict=True):
        assert a.stop < b.start


def test_parts_keep_to_their_slices(stored):
    case = make_case(depth=14, dropped=(8,))
    for whole in (case, stored(case)):
        healthy = HealthySet([Part(whole, (0, 5)), Part(whole, (5, 14))])
        assert healthy.volumes(NATIVE).runs == (SliceRun(0, 0, 4), SliceRun(1, 4, 7), SliceRun(1, 8, 12))
        stack = healthy.volumes(VolumeView(size=32))
        reads = apply_view(case, VolumeView(size=32)).geometry.reads
        ends = [(reads[run.start, 0], reads[run.stop - 1, 1]) for run in stack.runs]
        assert ends == [(1, 5), (5, 8), (9, 13)]


def test_slices_of_a_part_are_those_it_computes_from_its_own():
    part = Part(make_case(depth=14), (3, 6))
    viewed, indices = part.viewed(VolumeView(size=32))
    reads = viewed.geometry.reads[indices]
    assert (reads.min(), reads.max()) == (3, 6)


def test_a_set_without_region_and_slices_instead_of_volumes_are_refused():
    with pytest.raises(DataError, match="region of interest"):
        HealthySet([Part(make_case(), (0, 1))]).volumes(NATIVE)
    case = make_case()
    with pytest.raises(TypeError, match="VolumeView"):
        VolumeStack([(apply_view(case, View(size=16)), case.roi.any(axis=(1, 2)))])


def test_arrays_are_those_of_the_view(stored):
    cases = [make_case(), make_case("b", 1, 9, spacing=(1.0, 0.9, 0.9))]
    view = VolumeView(size=32, dtype="float16")
    memory = HealthySet.from_cases(cases).volumes(view)
    disk = HealthySet([Part(stored(case)) for case in cases]).volumes(view)
    assert memory.runs == disk.runs
    for i, case in enumerate(cases):
        seen = apply_view(case, view)
        assert disk.spacing(i) == memory.spacing(i) == seen.geometry.spacing
        assert disk.image(i).dtype == np.float16
        for stack in (memory, disk):
            np.testing.assert_array_equal(stack.image(i), seen.image)
            np.testing.assert_array_equal(stack.roi(i), seen.roi)
        assert isinstance(disk.image(i), np.memmap) or isinstance(disk.image(i).base, np.memmap)


class TestCrop:
    @pytest.fixture
    def stack(self):
        return HealthySet.from_cases([make_case(dropped=(6,))]).volumes(NATIVE)

    @pytest.mark.parametrize(("start", "depth"), [(1, 3), (0, 9), (3, 9)])
    def test_crops_are_copies_that_never_read_beyond_the_run(self, stack, start, depth):
        run, before = stack.runs[0], stack.image(0).copy()
        image, roi = stack.crop(run, start, depth)
        inside = slice(start, min(run.stop, start + depth))
        read = inside.stop - start
        assert image.shape == roi.shape == (depth, 32, 32)
        np.testing.assert_array_equal(image[:read], stack.image(0)[inside])
        np.testing.assert_array_equal(roi[:read], stack.roi(0)[inside])
        assert not image[read:].any()
        assert not roi[read:].any()
        image[:] = -1
        np.testing.assert_array_equal(stack.image(0), before)

    @pytest.mark.parametrize(("start", "depth"), [(-1, 2), (5, 2), (0, 0)])
    def test_impossible_crops_are_refused(self, stack, start, depth):
        with pytest.raises(IndexError, match="run from 0 to 5"):
            stack.crop(stack.runs[0], start, depth)
