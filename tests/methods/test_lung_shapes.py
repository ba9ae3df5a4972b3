"""Shapes of the lung lesions on both paths: places, smooth fields, draws, deformation and merging."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage
from uasbench.methods.synthesis import lung_lesions
from uasbench.methods.synthesis import lung_lesions_torch as device_path
from uasbench.methods.synthesis.lung_lesions import LesionRecipe
from uasbench.methods.synthesis.volume_fields import half_taps, random_rotations, random_voxels, smooth_nodes
from uasbench.methods.synthesis.volume_kernels import smooth


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


TOUCHING = np.ones((3, 3, 3), bool)


def test_counts_radii_and_amplitudes_follow_the_recipe():
    recipe, rng = LesionRecipe(), np.random.default_rng(0)
    drawn = [lung_lesions.draw_ellipsoids(recipe, rng, 1.0) for _ in range(2000)]
    classes = np.array([[(e.radii.max(axis=1) <= top).sum() for top in (10, 32, 64)] for e in drawn])
    small, medium, large = classes[:, 0], classes[:, 1] - classes[:, 0], classes[:, 2] - classes[:, 1]
    for counts in (small, medium):
        assert set(counts) == set(range(5, 11))
        assert abs(counts.mean() - 7.5) < 4 * counts.std() / len(counts) ** 0.5
    assert abs(large.mean() - 0.2) < 4 * (0.16 / len(large)) ** 0.5
    everything = lung_lesions.Ellipsoids.joined(drawn)
    assert everything.radii.min() >= 3
    assert abs(np.concatenate([e.radii[:5].ravel() for e in drawn]).mean() - 6.5) < 0.1
    assert (everything.amplitude <= np.maximum(0.3 * everything.radii.mean(axis=1), 1)).all()
    assert everything.amplitude.min() >= 1
    assert 4 <= everything.sigma.min() <= everything.sigma.max() <= 8


def test_fullness_scales_the_counts_and_radius_scale_the_sizes():
    half = [len(lung_lesions.draw_ellipsoids(LesionRecipe(), np.random.default_rng(s), 0.5)) for s in range(300)]
    assert abs(np.mean(half) - 7.6) < 0.5
    full, small = (
        lung_lesions.draw_ellipsoids(LesionRecipe(radius_scale=s), np.random.default_rng(0), 1.0) for s in (1.0, 0.5)
    )
    for name in ("radii", "sigma", "amplitude"):
        assert np.allclose(getattr(full, name) / 2, getattr(small, name))


@pytest.mark.parametrize("seed", range(4))
def test_touching_ellipsoids_merge_as_components_of_their_union(seed):
    shape, rng = (20, 60, 60), np.random.default_rng(seed)
    turns = random_rotations(14, rng)
    ellipsoids = lung_lesions.Ellipsoids(rng.uniform(2, 9, (14, 3)), turns, np.full(14, 3.0), np.zeros(14))
    centres = rng.integers(0, shape, (14, 3))
    blobs = lung_lesions.paint_blobs(ellipsoids, centres, shape, np.random.default_rng(0), merge_all=False)
    offset = np.moveaxis(np.indices(shape), 0, -1)[None] - centres[:, None, None, None]
    unit = np.einsum("kab,kzyxb->kzyxa", ellipsoids.to_unit, offset)
    masks = (unit**2).sum(axis=-1) <= 1
    assert np.array_equal(blobs.owner > 0, masks.any(axis=0))
    expected, found = ndimage.label(masks.any(axis=0), TOUCHING)
    ours = blobs.component[blobs.owner]
    assert found == len(blobs.start)
    for which in range(found):
        labels = np.unique(expected[ours == which])
        assert len(labels) == 1
        box = ndimage.find_objects(expected)[labels[0] - 1]
        assert [s.start for s in box] == blobs.start[which].tolist()
        assert [s.stop for s in box] == blobs.stop[which].tolist()
    label, *voxels = device_path.painted_voxels(ellipsoids, centres, shape, torch.Generator().manual_seed(0))
    on_device = np.zeros_like(masks)
    on_device[(label.numpy(), *(v.numpy() for v in voxels))] = True
    assert (on_device != masks).sum() <= 1e-4 * masks.sum()  # float32 on the surface


def test_device_blobs_merge_as_components_of_their_union():
    recipe, rois = LesionRecipe(radius_scale=0.4, elastic_amplitude=(0.0, 0.0)), torch.ones(3, 12, 70, 70) > 0
    generator = torch.Generator().manual_seed(0)
    blobs = device_path.shapes(recipe, rois, np.array([1.0, 0.6, 0.8]), np.random.default_rng(0), generator)
    owner = blobs.owner[:, 1:-1, 1:-1, 1:-1].numpy()
    for crop in range(3):
        expected, found = ndimage.label(owner[crop] > 0, TOUCHING)
        mine = np.flatnonzero(blobs.crop == crop)
        assert len(mine) == found
        for which, label in product(mine, range(1, found + 1)):
            same = blobs.component.numpy()[owner[crop]] == which
            overlap = (same & (expected == label)).any()
            assert not overlap or np.array_equal(same, expected == label)


@pytest.mark.parametrize("path", ["compiled", "device"])
def test_deformation_keeps_volume_and_stays_near_the_surface(path):
    shape = (40, 40, 40)
    radii, turns = np.full((20, 3), 10.0), np.tile(np.eye(3), (20, 1, 1))
    deformed = lung_lesions.Ellipsoids(radii, turns, np.full(20, 4.0), np.full(20, 2.0))
    centres = np.full((20, 3), 20)
    if path == "compiled":
        rng = np.random.default_rng(0)
        one = [deformed[np.array([k])] for k in range(20)]
        masks = np.array([lung_lesions.paint_blobs(e, centres[:1], shape, rng, merge_all=False).owner > 0 for e in one])
    else:
        label, *voxels = device_path.painted_voxels(deformed, centres, shape, torch.Generator().manual_seed(0))
        masks = np.zeros((20, *shape), bool)
        masks[(label.numpy(), *(v.numpy() for v in voxels))] = True
    distance = np.sqrt(((np.indices(shape) - 20) ** 2).sum(axis=0))
    assert masks[:, distance <= 10 - 2 * 3**0.5].all()
    assert not masks[:, distance > 10 + 2 * 3**0.5].any()
    assert not (masks == (distance <= 10)).all(axis=(1, 2, 3)).any()
    assert abs(masks.sum(axis=(1, 2, 3)).mean() / (4 / 3 * np.pi * 1000) - 1) < 0.05
