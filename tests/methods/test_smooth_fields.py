"""Gaussian filters of the synthesis and noise drawn on few nodes."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from uasbench.methods.synthesis import lung_lesions_torch as device_path
from uasbench.methods.synthesis.smooth_fields import half_taps, smooth_nodes
from uasbench.methods.synthesis.volume_kernels import smooth


@pytest.mark.parametrize("shape", [(7, 9, 20), (1, 4, 3)])
def test_both_gaussian_filters_are_those_of_scipy(shape):
    values, sigma = np.random.default_rng(0).random(shape), (11.3, 0.9, 5.0)
    expected = ndimage.gaussian_filter(values, sigma, mode="reflect")
    ours = values.copy()
    smooth(ours, *(half_taps(s) for s in sigma))
    assert np.allclose(ours, expected, rtol=0, atol=1e-12)
    padded = np.zeros((2, 1, 24, 24, 24))
    padded[1, 0, : shape[0], : shape[1], : shape[2]] = values
    lengths, sigmas = np.array([(24, 24, 24), shape]), np.array([(2, 2, 2), sigma])
    result = device_path.filtered(torch.from_numpy(padded), lengths, sigmas)[1, 0].numpy()
    assert np.allclose(result[: shape[0], : shape[1], : shape[2]], expected, rtol=0, atol=1e-12)
    result[: shape[0], : shape[1], : shape[2]] = 0
    assert not result.any()


def test_nodes_are_as_many_as_the_smoothness_asks_for():
    fields = smooth_nodes((1, 10, 101), 5.0, np.random.default_rng(0), 2)
    assert fields.shape == (2, 1, 10, 61)  # at most 5 / 3 voxels apart, one per voxel where that is few
    expected = np.random.default_rng(0).random(fields.shape) - 0.5
    for one, noise in zip(fields, expected, strict=True):
        assert np.allclose(one, ndimage.gaussian_filter(noise, (5, 5, 3), mode="reflect"), rtol=0, atol=1e-12)
