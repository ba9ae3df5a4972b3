"""The generator of synthetic tumours: sizes, places, shapes, texture and what it changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.interpolate import CubicSpline
from uasbench.methods.synthesis.smooth_fields import interpolated, spline_basis
from uasbench.methods.synthesis.tumour_shapes import SIZES, Tumours, draw_tumours, paint_tumours, random_centres
from uasbench.methods.synthesis.tumours import TumourGenerator, TumourRecipe

LIVER = (-21.0, 189.0)
MM = (1.0, 1.0, 1.0)
TABLE = {  # radius, least and most, elastic sigma: Hu et al. 2023 at 1 mm
    "tiny": (4, (3, 10), (0.5, 1)),
    "small": (8, (3, 10), (1, 2)),
    "medium": (16, (2, 5), (3, 6)),
    "large": (32, (1, 3), (5, 10)),
}


def ball(side: int = 48, radius: float = 22) -> np.ndarray:
    z, y, x = np.mgrid[:side, :side, :side] - side / 2
    return z**2 + y**2 + x**2 < radius**2


def one(radii, centre, elastic: float = 0.0) -> Tumours:
    return Tumours(np.array([centre], np.int64), np.array([radii], float), np.array([elastic]))


def test_the_numbers_are_the_published_ones():
    assert {k: (s.radius, s.count, s.elastic) for k, s in SIZES.items()} == TABLE
    r = TumourRecipe()
    assert r.kinds == ("tiny", "small", "medium", "large", "mix")
    assert (r.probability, r.difference, r.edge, r.sign) == (0.9, (65, 145), (1, 2), -1)
    assert (r.sigma_a, r.sigma_b) == ((3, 6, 9, 12, 15), (4, 7))
    assert (r.a_low, r.a_high, r.mean_threshold, r.mu0) == ((0.04, 0.06), (0.19, 0.21), 0.12, (0.5, 0.55))


@pytest.mark.parametrize("kind", [*TABLE, "mix"])
def test_sizes_numbers_and_deformations_follow_the_table(kind):
    rng, roi, seen = np.random.default_rng(0), ball(), set()
    for _ in range(60):
        drawn = draw_tumours(kind, roi, MM, rng)
        names = list(TABLE) if kind == "mix" else [kind]
        limits = {n: (5, 10) if kind == "mix" and n == "small" else TABLE[n][1] for n in names}
        assert sum(a for a, _ in limits.values()) <= len(drawn) <= sum(b for _, b in limits.values())
        seen.add(len(drawn))
        if kind != "mix":
            radius, _, elastic = TABLE[kind]
            assert (drawn.radii >= 0.75 * radius).all()
            assert (drawn.radii <= 1.25 * radius).all()
            assert (drawn.elastic >= elastic[0]).all()
            assert (drawn.elastic <= elastic[1]).all()
    if kind != "mix":
        least, most = TABLE[kind][1]
        assert seen == set(range(least, most + 1))


def test_centres_lie_deep_in_the_middle_of_the_organ():
    roi = ball()
    centres = random_centres(roi, MM, 400, np.random.default_rng(0))
    filled = np.flatnonzero(roi.any(axis=(1, 2)))
    extent = filled[-1] - filled[0]
    z = centres[:, 0] - filled[0]
    assert z.min() >= round(0.3 * extent)
    assert z.max() <= round(0.7 * extent)
    eroded = np.stack([ndimage.binary_erosion(plane, np.ones((5, 5))) for plane in roi])
    assert eroded[tuple(centres.T)].all()


def test_an_organ_too_thin_for_the_erosion_gets_no_tumour():
    roi = np.zeros((10, 20, 20), bool)
    roi[:, 8:11] = True
    assert len(draw_tumours("small", roi, MM, np.random.default_rng(0))) == 0
    assert len(draw_tumours("small", np.zeros_like(roi), MM, np.random.default_rng(0))) == 0


@settings(max_examples=20, deadline=None)
@given(
    radii=st.tuples(*[st.floats(4, 12)] * 3),
    spacing=st.tuples(st.floats(0.8, 4), st.floats(0.8, 2), st.floats(0.8, 2)),
    origin=st.tuples(*[st.integers(-6, 6)] * 3),
)
def test_without_deformation_the_shape_is_an_ellipsoid_in_mm(radii, spacing, origin):
    shape, centre = (14, 26, 26), (7, 13, 13)
    painted = paint_tumours(one(radii, centre), np.array(origin), shape, spacing, np.random.default_rng(0))
    at = np.subtract(centre, origin)
    grid = np.moveaxis(np.indices(shape), 0, -1) - at
    distance = ((grid * np.array(spacing) / np.array(radii)) ** 2).sum(-1)
    assert (painted == (distance <= 1))[np.abs(distance - 1) > 1e-9].all()


def test_deformation_changes_the_shape_and_keeps_its_size_about():
    plain = paint_tumours(one((16,) * 3, (32,) * 3), np.zeros(3, int), (64,) * 3, MM, np.random.default_rng(0))
    volumes = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        bent = paint_tumours(one((16,) * 3, (32,) * 3, 4.5), np.zeros(3, int), (64,) * 3, MM, rng)
        assert (bent != plain).any()
        assert ndimage.label(bent)[1] == 1
        volumes.append(bent.sum() / plain.sum())
    assert 0.6 < np.median(volumes) < 1.6


@pytest.mark.parametrize("points", [3, 7])
def test_control_points_are_joined_by_cubic_splines(points):
    values = np.random.default_rng(0).normal(size=points)
    shares = np.linspace(0, 1, 40)
    reference = CubicSpline(np.linspace(0, 1, points), values, bc_type="clamped")(shares)
    assert np.allclose(spline_basis(shares, points) @ values, reference)
    assert np.allclose(spline_basis(shares, points).sum(1), 1)
    basis = spline_basis(np.linspace(0, 1, points), points)
    controls = np.random.default_rng(1).normal(size=(2, points, points, points))
    assert np.allclose(interpolated(controls, [basis] * 3), controls)


@pytest.mark.parametrize(("sign", "window"), [(-1, LIVER), (1, (-800.0, 100.0))])
def test_tumours_change_the_organ_alone_by_their_sign(sign, window):
    rng, roi = np.random.default_rng(3), ball()
    image = np.where(roi, 0.5 + rng.normal(0, 0.02, roi.shape), 0).astype(np.float32)
    generator = TumourGenerator(TumourRecipe(sign=sign, probability=1, kinds=("small",)), window, rng)
    tumours = generator.draw(roi, MM)
    changed, mask = generator.place(image, roi, tumours, np.zeros(3, int), MM)
    assert mask.any()
    assert not (mask & ~roi).any()
    assert np.array_equal(changed[~roi], image[~roi])
    far = ~ndimage.binary_dilation(mask, iterations=9 * 2)
    assert np.array_equal(changed[far], image[far])
    assert ((changed - image) * sign >= 0).all()
    deep = ndimage.binary_erosion(mask, iterations=3)
    hu = (changed - image)[deep].mean() * (window[1] - window[0]) * sign
    assert 65 * 0.3 < hu < 145 * 0.8
    assert changed.dtype == np.float32
    assert ((changed >= 0) & (changed <= 1)).all()


def test_texture_is_brought_to_its_mean():
    generator = TumourGenerator(TumourRecipe(), LIVER, np.random.default_rng(0))
    for _ in range(5):
        texture = generator._texture((32, 48, 48), MM)
        bright = texture[texture > np.median(texture) * 0.8]
        assert texture.min() >= 0
        assert texture.max() <= 1
        assert 0.35 < bright.mean() < 0.75


def test_nine_organs_of_ten_get_tumours():
    generator = TumourGenerator(TumourRecipe(kinds=("large",)), LIVER, np.random.default_rng(0))
    roi = ball()
    share = np.mean([len(generator.draw(roi, MM)) > 0 for _ in range(400)])
    assert 0.85 < share < 0.95


def test_a_crop_without_a_tumour_stays_as_it_is():
    generator = TumourGenerator(TumourRecipe(), LIVER, np.random.default_rng(0))
    image, roi = np.full((8, 8, 8), 0.5, np.float32), np.ones((8, 8, 8), bool)
    changed, mask = generator.place(image, roi, one((4, 4, 4), (90, 90, 90)), np.zeros(3, int), MM)
    assert np.array_equal(changed, image)
    assert not mask.any()


def test_equal_seeds_give_equal_tumours():
    def make(seed: int) -> np.ndarray:
        generator = TumourGenerator(TumourRecipe(probability=1), LIVER, np.random.default_rng(seed))
        image, roi = np.full((24,) * 3, 0.6, np.float32), ball(24, 11)
        return generator.place(image, roi, generator.draw(roi, MM), np.zeros(3, int), MM)[0]

    assert np.array_equal(make(1), make(1))
    assert not np.array_equal(make(1), make(2))


@pytest.mark.parametrize("wrong", [{"kinds": ("huge",)}, {"kinds": ()}, {"sign": 0}])
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TumourRecipe(**wrong)
