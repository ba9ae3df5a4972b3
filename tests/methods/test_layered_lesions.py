"""Lesions as layers: composition, masks, brightness and where the texture comes from."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.methods.synthesis.layered_lesions import POLAR, LayerGenerator, LayerRecipe, Layers, perturbed_radii

SPACING = (2.0, 2.0, 2.0)


def layers(seed: int, normal: np.ndarray, roi: np.ndarray, **recipe) -> Layers:
    return LayerGenerator(LayerRecipe(**recipe), np.random.default_rng(seed))(normal, roi, SPACING)


def tissue(seed: int = 0, side: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:side, :side, :side] - side / 2
    roi = z**2 + y**2 + x**2 < (0.48 * side) ** 2
    return np.where(roi, 0.5 + rng.normal(0, 0.03, roi.shape), 0).astype(np.float32), roi


@given(seed=st.integers(0, 1000))
def test_the_image_is_composed_of_its_layers_and_differs_inside_the_mask_only(seed):
    normal, roi = tissue(seed % 3)
    made = layers(seed, normal, roi)
    m = made.mask.astype(np.float64)
    expected = (1 - made.alpha * m) * normal + made.alpha * m * made.lesion
    assert np.allclose(made.image, expected, atol=1e-6)
    assert np.array_equal(made.image[~made.mask], normal[~made.mask])
    assert np.array_equal(made.normal, normal)
    assert not made.lesion[~made.mask].any()
    assert made.mask.any()
    assert not (made.mask & ~roi).any()
    assert 0.2 <= made.alpha <= 0.8
    assert made.image.dtype == made.lesion.dtype == np.float32


@pytest.mark.parametrize("zero", [0.0, 0.25])
def test_the_lesion_has_the_mean_of_the_tissue_under_it_times_its_factor(zero):
    normal, roi = tissue()
    for seed in range(10):
        made = layers(seed, normal, roi, zero=zero)
        under, over = normal[made.mask].mean() - zero, made.lesion[made.mask].mean() - zero
        assert over == pytest.approx(made.factor * under, rel=0.01)


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


def test_masks_have_the_published_volumes_in_mm():
    shape = (52, 52, 52)
    volumes = []
    for seed in range(30):
        generator = LayerGenerator(LayerRecipe(), np.random.default_rng(seed))
        _, inside = generator._ball(np.array([26, 26, 26]), shape, (2.0, 2.0, 2.0))
        volumes.append(inside.sum() * 8)
    assert 0.9 * 7000 < min(volumes) < max(volumes) / 10 < 1.1 * 20_000


def test_a_voxel_twice_as_long_halves_the_mask_along_its_axis():
    shape, centre = (44, 88, 88), np.array([22, 44, 44])
    box, inside = LayerGenerator(LayerRecipe(roughness=(0, 1e-9)), np.random.default_rng(0))._ball(
        centre, shape, (2.0, 1.0, 1.0)
    )
    extents = [np.ptp(np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {a})))) for a in range(3)]
    assert extents[1] == pytest.approx(2 * extents[0], abs=2)
    assert extents[1] == pytest.approx(extents[2], abs=1)
    assert len(box) == 3


def test_an_empty_organ_stays_empty_and_a_recipe_without_brightness_is_refused():
    normal, roi = tissue()
    made = layers(0, normal, np.zeros_like(roi))
    assert np.array_equal(made.image, normal)
    assert not made.mask.any()
    with pytest.raises(ValueError, match="factors"):
        LayerRecipe(factors=())


def test_the_texture_comes_from_another_region_of_the_organ():
    normal, roi = tissue()
    flat = np.where(roi, 0.5, 0).astype(np.float32)
    for seed in range(8):
        made = layers(seed, flat, roi)
        assert np.allclose(made.lesion[made.mask], 0.5 * made.factor, atol=1e-5)
    changes = []
    for seed in range(6):
        made = layers(seed, normal, roi, blur=(0.3, 0.31), elastic=0.0)
        changes.append(abs(np.corrcoef(made.lesion[made.mask], normal[made.mask])[0, 1]))
    assert max(changes) < 0.2
