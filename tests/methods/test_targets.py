"""The ground truth of NormNet's training and the fullness of its crops."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from uasbench.methods.normalcy.parts.crops import fullness, target

TAU = 1 / 3


@given(st.integers(0, 2**32 - 1))
def test_the_whole_blob_and_all_dark_voxels_are_excluded(seed):
    rng = np.random.default_rng(seed)
    clean = rng.random((3, 4, 5), dtype=np.float32)
    blobs, roi = rng.random(clean.shape) < 0.3, rng.random(clean.shape) < 0.8
    marked = target(clean, blobs, roi, TAU)
    assert marked.dtype == bool
    for at in np.ndindex(clean.shape):
        assert marked[at] == (clean[at] >= np.float32(TAU) and roi[at] and not blobs[at])


def test_tensors_and_arrays_give_the_same_target():
    rng = np.random.default_rng(0)
    clean, blobs, roi = (
        rng.random((2, 3, 8, 8), dtype=np.float32),
        rng.random((2, 3, 8, 8)) < 0.3,
        np.ones((2, 3, 8, 8), bool),
    )
    marked = target(*(torch.from_numpy(a) for a in (clean, blobs, roi)), TAU)
    assert marked.dtype == torch.bool
    assert np.array_equal(marked.numpy(), target(clean, blobs, roi, TAU))


def test_fullness_is_relative_to_the_fullest_crop():
    rois = np.zeros((3, 2, 4, 4), bool)
    rois[0, 0, :2] = True
    rois[1] = True
    assert fullness(rois).tolist() == [0.25, 1, 0]
    assert fullness(rois, most=64).tolist() == [0.125, 0.5, 0]
    assert fullness(rois, most=16).tolist() == [0.25, 1, 0]
    assert fullness(np.zeros((2, 2, 4, 4), bool)).tolist() == [0, 0]


def test_fullness_is_float32_in_the_unit_interval():
    lam = fullness(np.random.default_rng(0).random((5, 2, 8, 8)) < 0.5)
    assert lam.dtype == np.float32
    assert lam.max() == 1
    assert lam.min() >= 0
