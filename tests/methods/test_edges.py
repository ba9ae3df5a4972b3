"""Erroneous edges: what is erased from an ROI, against SciPy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from uasbench.methods.normalcy.parts.crops import remove_erroneous_edges

TAU = 1 / 3
CROSS = ndimage.generate_binary_structure(2, 1)[None]


def plain(image, roi, share):
    bright = roi & (image >= TAU)
    border = roi & ~ndimage.binary_erosion(roi, CROSS)
    labels, n = ndimage.label(bright)
    out = roi.copy()
    for number in range(1, n + 1):
        component = labels == number
        if border[component].mean() > share:
            out &= ~component
    return out


def lung(shape=(6, 30, 30)):
    _, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    roi = np.broadcast_to((y - 15) ** 2 + (x - 15) ** 2 <= 144, shape).copy()
    return np.where(roi, np.float32(0.1), np.float32(0)), roi


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 5), st.integers(1, 14), st.integers(1, 14)),
    st.sampled_from([0, 0.3, 0.5, 1]),
)
def test_the_erased_components_are_those_of_scipy(seed, shape, share):
    rng = np.random.default_rng(seed)
    image = rng.random(shape, dtype=np.float32)
    roi = ndimage.binary_dilation(rng.random(shape) < 0.2, CROSS)
    out = remove_erroneous_edges(image, roi, tau=TAU, **({} if share == 0.5 else {"share": share}))
    assert np.array_equal(out, plain(image, roi, share))


def test_a_bright_rim_goes_vessels_and_inputs_stay_and_half_precision_works():
    image, roi = lung()
    rim = roi & ~ndimage.binary_erosion(roi, CROSS)
    image[rim] = 0.9
    image[:, 14:17, 10:21] = 0.8
    before = image.copy(), roi.copy()
    assert np.array_equal(remove_erroneous_edges(image, roi, tau=TAU), roi & ~rim)
    assert all(np.array_equal(now, then) for now, then in zip((image, roi), before, strict=True))
    assert np.array_equal(remove_erroneous_edges(image.astype(np.float16), roi, tau=TAU), roi & ~rim)
