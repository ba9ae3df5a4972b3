import numpy as np
import pytest
from uasbench.datasets.views.resize import back_positions, interpolate_back, nearest_index, resample, resize_taps

SIZES = [(512, 256), (64, 64), (100, 37), (37, 100), (97, 96), (5, 1), (1, 4)]


def resized(image, size, filter_, offset=(0, 0), side=None):
    side = side or max(image.shape)
    rows, columns = (resize_taps(side, size, offset[i], image.shape[i], filter_) for i in (0, 1))
    out = np.full((size, size), np.nan, np.float32)
    resample(
        np.ascontiguousarray(image),
        *(rows.start, rows.count, rows.weight, columns.start, columns.count, columns.weight),
        *(0, image.shape[0], 0, image.shape[1]),
        out,
    )
    return out


def noise(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize(("side", "size"), SIZES)
@pytest.mark.parametrize("filter_", ["area", "bilinear"])
def test_equals_torch(side, size, filter_):
    import torch
    from torch.nn.functional import interpolate

    image = noise(side, side)
    options = {"mode": "area"} if filter_ == "area" else {"mode": "bilinear", "align_corners": False}
    expected = interpolate(torch.from_numpy(image)[None, None], size=(size, size), **options)[0, 0].numpy()
    np.testing.assert_allclose(resized(image, size, filter_), expected, atol=2e-5)


@pytest.mark.parametrize(("side", "size"), SIZES)
def test_cubic_equals_pillow_on_floats(side, size):
    import PIL.Image as image_module

    image = noise(side, side)
    expected = image_module.fromarray(image).resize((size, size), image_module.Resampling.BICUBIC)
    np.testing.assert_allclose(resized(image, size, "cubic"), np.asarray(expected), atol=2e-5)


@pytest.mark.parametrize("filter_", ["area", "bilinear", "cubic"])
@pytest.mark.parametrize("size", [16, 50, 120])
def test_padding_is_the_same_as_zeros(filter_, size):
    image = noise(30, 50)
    padded = np.zeros((50, 50), np.float32)
    padded[10:40] = image
    found = resized(image, size, filter_, offset=(10, 0), side=50)
    np.testing.assert_allclose(found, resized(padded, size, filter_), atol=1e-6)


def test_bounding_box_skips_zeros_only():
    image = np.zeros((40, 40), np.float32)
    image[7:21, 13:30] = noise(14, 17)
    rows = columns = resize_taps(40, 23, 0, 40, "cubic")
    taps = (rows.start, rows.count, rows.weight, columns.start, columns.count, columns.weight)
    tight, full = np.empty((23, 23), np.float32), np.empty((23, 23), np.float32)
    resample(image, *taps, 7, 21, 13, 30, tight)
    resample(image, *taps, 0, 40, 0, 40, full)
    np.testing.assert_array_equal(tight, full)


@pytest.mark.parametrize(("side", "size"), SIZES)
def test_mapping_back_is_torch_bilinear(side, size):
    import torch
    from torch.nn.functional import interpolate

    image = noise(size, size)
    expected = interpolate(torch.from_numpy(image)[None, None], size=(side, side), mode="bilinear")[0, 0].numpy()
    out = np.empty((side, side), np.float32)
    interpolate_back(image, *back_positions(size, side, 0, side), *back_positions(size, side, 0, side), out)
    np.testing.assert_allclose(out, expected, atol=5e-5)


def test_nearest_pixel_holds_the_centre():
    np.testing.assert_array_equal(nearest_index(512, 256), np.arange(256) * 2 + 1)
    np.testing.assert_array_equal(nearest_index(7, 7), np.arange(7))
    np.testing.assert_array_equal(nearest_index(2, 4), [0, 0, 1, 1])
