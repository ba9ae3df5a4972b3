"""Random voxels of a region of interest and random rotations."""

import numpy as np
import torch
from uasbench.methods.synthesis import lung_lesions_torch as device_path
from uasbench.methods.synthesis.random_places import random_rotations, random_voxels


def test_rotations_are_rotations_without_a_preferred_direction():
    turns = random_rotations(3000, np.random.default_rng(0))
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(np.linalg.det(turns), 1)
    assert np.abs(turns.mean(axis=0)).max() < 4 * (1 / 3 / 3000) ** 0.5
    assert np.allclose((turns**2).mean(axis=0), 1 / 3, atol=0.03)


def test_centres_are_uniform_over_the_roi_on_both_paths():
    roi = np.random.default_rng(0).random((3, 5, 7)) < 0.3
    voxels = np.argwhere(roi)
    picks = (np.arange(len(voxels)) + 0.5) / len(voxels)
    assert np.array_equal(random_voxels(roi, picks), voxels)
    rois = torch.from_numpy(np.stack([np.zeros_like(roi), roi]))
    crop = torch.ones(len(picks), dtype=torch.long)
    assert np.array_equal(device_path.random_voxels(rois, crop, torch.from_numpy(picks)), voxels)
    assert (device_path.random_voxels(rois, 0 * crop, torch.from_numpy(picks)) == -1).all()
