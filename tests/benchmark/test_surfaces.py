"""Surface distances: the definition of surface-distance, its properties, and what is said of empty masks."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from uasbench.benchmark.scoring.metrics import NO_LESION, Undefined, computed
from uasbench.benchmark.scoring.surfaces import Surface, SurfaceDistances

SHAPE = (5, 9, 11)
spacings = st.tuples(*[st.sampled_from([0.4, 0.5, 0.7, 0.8, 1.0, 2.5, 5.0])] * 3)
seeds = st.integers(0, 2**32 - 1)


def blob(seed: int, share: float = 0.2) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.0)
    return noise > np.quantile(noise, 1 - share)


def between(truth, mask, spacing=(2.5, 0.8, 0.8)) -> SurfaceDistances:
    farthest = float(np.linalg.norm(np.multiply(truth.shape, spacing)))
    return SurfaceDistances.between(Surface.of(truth, spacing), Surface.of(mask, spacing), farthest)


def values(truth, mask, spacing=(2.5, 0.8, 0.8)) -> dict:
    return {metric.id: value for metric, value in computed("surfaces", between(truth, mask, spacing), "case")}


@given(seeds, seeds, st.floats(0.02, 0.6), spacings)
def test_the_numbers_are_those_of_surface_distance(one, two, share, spacing):
    reference = pytest.importorskip("surface_distance", reason="of the extra 'test'")
    truth, mask = blob(one), blob(two, share)
    theirs = reference.compute_surface_distances(truth, mask, spacing)
    ours = values(truth, mask, spacing)
    for tolerance in (2.0, 5.0):
        expected = reference.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert ours[f"nsd_{tolerance:.0f}mm"] == pytest.approx(expected, abs=1e-12)
    assert ours["hd95"] == pytest.approx(reference.compute_robust_hausdorff(theirs, 95), abs=1e-12)


def test_the_surface_of_every_way_to_fill_eight_voxels_is_that_of_surface_distance():
    tables = pytest.importorskip("surface_distance.lookup_tables", reason="of the extra 'test'")
    spacing = (2.5, 0.8, 0.7)
    areas = tables.create_table_neighbour_code_to_surface_area(spacing)
    for code in range(1, 256):
        cube = (tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL & code) > 0
        surface = Surface.of(cube, spacing)
        between_all = surface.areas[(surface.corners == 1).all(axis=1)].sum()
        assert between_all == pytest.approx(areas[code], abs=1e-12), code


@given(seeds, st.floats(0.02, 0.9), spacings)
def test_a_mask_on_itself_is_the_best(seed, share, spacing):
    mask = blob(seed, share)
    assert values(mask, mask, spacing) == {"nsd_2mm": 1.0, "nsd_5mm": 1.0, "hd95": 0.0}


@given(seeds, seeds, st.floats(0.02, 0.6), spacings)
def test_they_lie_in_their_range_and_truth_and_mask_may_be_exchanged(one, two, share, spacing):
    truth, mask = blob(one), blob(two, share)
    found = values(truth, mask, spacing)
    assert 0 <= found["nsd_2mm"] <= found["nsd_5mm"] <= 1
    assert 0 <= found["hd95"] <= np.linalg.norm(np.multiply(SHAPE, spacing))
    assert values(mask, truth, spacing) == pytest.approx(found, abs=1e-12)


@given(seeds, seeds, st.sampled_from([*permutations(range(3))]), st.sampled_from([*product((1, -1), repeat=3)]))
def test_flips_and_turns_change_nothing(one, two, order, signs):
    truth, mask, spacing = blob(one), blob(two), (2.5, 0.8, 0.7)
    turned = [part.transpose(order)[tuple(slice(None, None, sign) for sign in signs)] for part in (truth, mask)]
    assert values(*turned, tuple(spacing[axis] for axis in order)) == pytest.approx(values(truth, mask, spacing))


@given(seeds, seeds, st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_lengths_scale_with_the_spacing(one, two, scale):
    spacing = (2.5, 0.8, 0.7)
    small = between(blob(one), blob(two), spacing)
    large = between(blob(one), blob(two), tuple(scale * step for step in spacing))
    assert large.within(2.0 * scale) == pytest.approx(small.within(2.0))
    assert large.hausdorff(0.95) == pytest.approx(scale * small.hausdorff(0.95))


@pytest.mark.parametrize("step", [0.1, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("place", range(7))
def test_a_tolerance_that_is_just_met_is_met_wherever_the_mask_lies(step, place):
    truth, mask = np.zeros((40, 3, 3), bool), np.zeros((40, 3, 3), bool)
    steps = round(2.0 / step)
    truth[place], mask[place + steps] = True, True
    assert values(truth, mask, (step, 9.0, 9.0))["nsd_2mm"] == 1


def test_without_a_lesion_there_is_no_distance_and_without_a_mask_the_worst():
    nothing, lesion, spacing = np.zeros(SHAPE, bool), blob(0), (2.5, 0.8, 0.8)
    for mask in (nothing, lesion):
        assert set(values(nothing, mask).values()) == {Undefined(NO_LESION)}
    worst = float(np.linalg.norm(np.multiply(SHAPE, spacing)))
    assert values(lesion, nothing, spacing) == {"nsd_2mm": 0.0, "nsd_5mm": 0.0, "hd95": worst}


def test_a_mask_at_the_border_of_the_grid_has_a_surface_there():
    whole = np.ones((2, 3, 4), bool)
    surface = Surface.of(whole, (1.0, 1.0, 1.0))
    assert len(surface.corners) == 3 * 4 * 5 - 1 * 2 * 3
    assert Surface.of(np.pad(whole, 3), (1.0, 1.0, 1.0)).areas.sum() == pytest.approx(surface.areas.sum())
