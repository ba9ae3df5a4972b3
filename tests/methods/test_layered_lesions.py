"""Lesions as layers: composition, masks, brightness and where the texture comes from."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates
from uasbench.common.boxes import bounding_box
from uasbench.methods.synthesis import volume_kernels as kernels
from uasbench.methods.synthesis.layered_lesions import (
    POLAR,
    LayerGenerator,
    LayerRecipe,
    Lesion,
    Organ,
    perturbed_radii,
)
from uasbench.methods.synthesis.volume_fields import free_basis

SPACING = (2.0, 2.0, 2.0)


def tissue(seed: int = 0, side: int = 40, mean: float = 0.5) -> Organ:
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:side, :side, :side] - side / 2
    roi = z**2 + y**2 + x**2 < (0.48 * side) ** 2
    image = np.where(roi, mean + rng.normal(0, 0.03, roi.shape), 0).astype(np.float32)
    return Organ(image, roi, SPACING, bounding_box(roi), float(image[roi].mean()))


def lesion(seed: int, organ: Organ, other: Organ | None = None, **recipe) -> Lesion:
    generator = LayerGenerator(LayerRecipe(**recipe), np.random.default_rng(seed))
    return generator(organ.roi, np.zeros(3, int), organ, other or organ)


@given(seed=st.integers(0, 1000))
def test_the_mixture_is_composed_of_both_layers_inside_the_organ(seed):
    organ = tissue(seed % 3)
    made = lesion(seed, organ, tissue(3))
    assert made.mask.any()
    assert not (made.mask & ~organ.roi[made.box]).any()
    normal, layer = (a[made.mask].astype(np.float64) for a in (organ.image[made.box], made.layer))
    mixture = made.mixture(organ.image)
    assert np.allclose(mixture, (1 - made.alpha) * normal + made.alpha * layer, atol=1e-6)
    assert 0.2 <= made.alpha <= 0.8
    assert mixture.dtype == made.layer.dtype == np.float32


@pytest.mark.parametrize("zero", [0.0, 0.25])
def test_the_lesion_has_the_mean_of_its_organ_times_its_factor_whatever_the_other_scan(zero):
    organ, other = tissue(), tissue(1, mean=0.7)
    for seed in range(10):
        made = lesion(seed, organ, other, zero=zero)
        assert made.layer[made.mask].mean() - zero == pytest.approx(made.factor * (organ.mean - zero), rel=0.01)


def test_factors_are_drawn_from_the_union_of_their_ranges():
    rng = np.random.default_rng(0)
    drawn = np.array([LayerRecipe().draw_factor(rng) for _ in range(2000)])
    dark = drawn < 1
    assert 0.4 <= drawn[dark].min() <= drawn[dark].max() <= 0.9
    assert 1.1 <= drawn[~dark].min() <= drawn[~dark].max() <= 1.4
    assert dark.mean() == pytest.approx(0.5 / 0.8, abs=0.04)


def test_rough_balls_keep_the_volume_and_get_rougher():
    directions = np.random.default_rng(1).normal(size=(20000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    row = np.clip(np.arccos(directions[:, 0]) / math.pi * POLAR, 0, POLAR - 1).astype(int)
    column = (np.arctan2(directions[:, 1], directions[:, 2]) % (2 * math.pi) / math.pi * POLAR).astype(int)
    spreads = []
    for roughness in (0.05, 0.2):
        radii = perturbed_radii(LayerRecipe(roughness=(roughness, roughness + 1e-9)), np.random.default_rng(0))
        assert radii.shape == (POLAR, 2 * POLAR)
        assert (radii > 0).all()
        volume = (radii[row, column] ** 3).mean()
        assert volume == pytest.approx(1, abs=0.05)
        spreads.append(radii.std())
    assert spreads[1] > 2.5 * spreads[0]


def test_volumes_are_uniform_in_mm():
    shape, centre = (72,) * 3, np.array([36] * 3)
    rng = np.random.default_rng(0)
    generator = LayerGenerator(LayerRecipe(), rng)
    volumes = np.array([generator._ellipsoid(centre, shape, SPACING)[1].sum() * 8 for _ in range(200)])
    assert 0.9 * 7_000 < volumes.min() < volumes.max() < 1.1 * 200_000
    assert volumes.mean() == pytest.approx(103_500, rel=0.1)
    assert np.mean(volumes < 55_250) == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (1.0, 1.0, 1.0)])
def test_without_roughness_masks_are_ellipsoids_with_radii_of_a_ball_times_rho_and_its_inverse(spacing):
    smooth = LayerRecipe(roughness=(0, 1e-12), volume=(30_000, 30_001), flattening=(0.8, 0.8 + 1e-9))
    shape = tuple(int(64 / s) for s in spacing)
    for seed in range(5):
        generator = LayerGenerator(smooth, np.random.default_rng(seed))
        box, inside = generator._ellipsoid(np.array(shape) // 2, shape, spacing)
        places = (np.argwhere(inside) + [part.start for part in box]) * np.array(spacing)
        # The covariance of a filled ellipsoid has the squared radii over 5 as its eigenvalues.
        radii = np.sqrt(5 * np.linalg.eigvalsh(np.cov(places.T)))
        ball = (3 * 30_000 / (4 * math.pi)) ** (1 / 3)
        assert radii == pytest.approx(ball * np.array([0.8, 1, 1.25]), rel=0.02)


def test_a_recipe_without_brightness_is_refused():
    with pytest.raises(ValueError, match="factors"):
        LayerRecipe(factors=())


def test_the_texture_is_the_other_organ_at_the_corresponding_place():
    organ, other = tissue(side=40), tissue(side=44)
    exact = {"displacement": 0.0, "blur": (1e-3, 1.1e-3), "roughness": (0, 1e-12)}
    # Grey values that tell the place: the texture, brought to another mean and contrast, must be that of the other box.
    ramp = np.broadcast_to(0.2 + 0.01 * np.arange(44, dtype=np.float32)[:, None, None], (44, 44, 44))
    other = Organ(ramp, np.ones_like(other.roi), SPACING, other.box, 0.4)
    for seed in range(6):
        made = lesion(seed, organ, other, **exact)
        z = np.nonzero(made.mask)[0]
        values = (made.layer[made.mask] - made.layer[made.mask].mean()) / made.factor
        assert np.allclose(values, 0.01 * (z - z.mean()), atol=2e-3)
        alone = lesion(seed, organ, **exact)
        under = organ.image[alone.box][alone.mask]
        assert abs(np.corrcoef(alone.layer[alone.mask], under)[0, 1]) < 0.2, "of one organ: another place"


def test_the_place_in_the_other_organ_is_the_same_share_of_its_box():
    organ = tissue(side=40)
    shifted = np.zeros((60, 60, 60), bool)
    shifted[15:55, 10:50, 5:45] = organ.roi
    image = np.zeros(shifted.shape, np.float32)
    image[15:55, 10:50, 5:45] = organ.image
    moved = Organ(image, shifted, SPACING, bounding_box(shifted), organ.mean)
    made = lesion(0, organ, moved, displacement=0.0, blur=(1e-3, 1.1e-3), alpha=(0.5, 0.5), factors=((1, 1 + 1e-9),))
    here = organ.image[made.box][made.mask]
    assert np.allclose(made.layer[made.mask] - made.layer[made.mask].mean(), here - here.mean(), atol=1e-5)


def test_only_the_inner_control_points_move_by_cubic_b_splines():
    shares, points = np.linspace(0, 1, 41), 7
    every = free_basis(shares, points, 0)
    assert np.allclose(every.sum(1), 1)
    splines = BSpline.design_matrix(shares * 4 * 0.999999, np.arange(-3, 8).astype(float), 3).toarray()
    assert np.allclose(every, splines, atol=1e-4)
    assert np.array_equal(free_basis(shares, points, 2), every[:, 2:-2])


def test_warping_reads_displaced_places_linearly():
    rng = np.random.default_rng(0)
    image = rng.random((9, 11, 13)).astype(np.float32)
    sides, first, step = (6, 7, 8), np.array([1.3, -0.6, 2.2]), np.array([1.0, 1.5, 0.8])
    controls = rng.normal(0, 0.7, (3, 3, 3, 3))
    bases = [free_basis(np.linspace(0, 1, n), 7, 2) for n in sides]
    out = np.empty(sides, np.float32)
    kernels.warp(image, np.float32(0.4), first, step, controls, *bases, out)
    places = np.einsum("zi,yj,xk,cijk->czyx", *bases, controls) + np.indices(sides) * step[:, None, None, None]
    places += first[:, None, None, None]
    padded = np.pad(image, 8, constant_values=0.4)
    assert np.allclose(out, map_coordinates(padded, places + 8, order=1), atol=1e-5)
