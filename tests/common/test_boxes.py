import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from uasbench.common.boxes import bounding_box, bounds


@given(arrays(bool, array_shapes(min_dims=1, max_dims=4, max_side=5)))
def test_bounds_are_the_extreme_indices_along_each_axis(mask):
    used = [set(indices.tolist()) or {0} for indices in np.nonzero(mask)]
    assert bounds(mask) == tuple((min(i), max(i) + int(mask.any())) for i in used)


@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=6)), st.tuples(*[st.integers(0, 2)] * 3))
def test_the_box_holds_the_mask_and_its_margin_as_far_as_the_grid_goes(mask, margin):
    box = bounding_box(mask, margin)
    assert mask[box].sum() == mask.sum()
    sides = zip(bounds(mask), margin, mask.shape, strict=True)
    grown = tuple(slice(max(0, a - m), min(n, b + m)) for (a, b), m, n in sides)
    assert box == (grown if mask.any() else (slice(0, 0),) * 3)


@pytest.mark.parametrize("margin", [0, 2])
def test_one_margin_serves_all_axes(margin):
    mask = np.zeros((9, 9, 9), bool)
    mask[4, 3:5, 1] = True
    wider = slice(max(0, 1 - margin), 2 + margin)
    assert bounding_box(mask, margin) == (slice(4 - margin, 5 + margin), slice(3 - margin, 5 + margin), wider)
