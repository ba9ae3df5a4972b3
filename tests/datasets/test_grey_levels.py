import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import arrays
from uasbench.datasets.views.grey_levels import equalise_in_place


def equalise(levels, roi):
    out = levels.copy()
    equalise_in_place(out, roi)
    return out


def by_the_card(levels, roi):
    """The published recipe in plain NumPy, with exact integers."""
    histogram = np.bincount(levels[roi], minlength=256)
    histogram[0] = 0
    if histogram.sum() == 0:
        return levels.copy()
    table = 255 * np.cumsum(histogram) // histogram.sum()
    table = np.array([v * 120 // 150 + 30 if 0 < v < 150 else v for v in table])
    return np.where(roi, table[levels], levels).astype(np.uint8)


@given(arrays(np.uint8, (7, 9)), arrays(bool, (7, 9)))
def test_equals_the_recipe(levels, roi):
    result = equalise(levels, roi)
    np.testing.assert_array_equal(result, by_the_card(levels, roi))
    inside = result[roi]
    assert ((inside == 0) | (inside >= 30)).all()
    np.testing.assert_array_equal(result[~roi], levels[~roi])
    assert (inside[levels[roi] == 0] == 0).all()


@given(arrays(np.uint8, (6, 6)))
def test_keeps_the_order_of_grey_levels(levels):
    roi = np.ones(levels.shape, bool)
    order = np.argsort(levels, axis=None, kind="stable")
    assert (np.diff(equalise(levels, roi).ravel()[order].astype(int)) >= 0).all()
