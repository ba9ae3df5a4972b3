"""Patches of other slices: their place, their blend, what the target says; the two methods that train on them."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import spsolve
from uasbench.common.boxes import bounds
from uasbench.common.errors import DataError
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.slice_view import View
from uasbench.methods.context import FitContext
from uasbench.methods.losses import masked_cross_entropy
from uasbench.methods.pseudo_anomaly.fpi import FPI, PII
from uasbench.methods.synthesis.foreign_patch import (
    BLENDS,
    AnySlice,
    ForeignPatches,
    SamePlace,
    interpolate,
    poisson_blend,
    same_position,
    window,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def ellipse(size, centre, radii):
    y, x = np.mgrid[:size, :size]
    return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1


def pairs(count=24, size=48, seed=0):
    draw = rng(seed)
    out = []
    for _ in range(2):
        rois = np.stack([ellipse(size, draw.uniform(18, 30, 2), draw.uniform(9, 16, 2)) for _ in range(count)])
        out += [(draw.random((count, size, size)) * rois).astype(np.float32), rois]
    return out


def test_donor_is_another_patient_at_the_same_relative_height():
    # Patient a has 5 slices, b 9, c 3 in another order and one more scan of a single slice.
    patients = np.array(["a"] * 5 + ["b"] * 9 + ["c"] * 4)
    z = np.array([*range(10, 15), *range(9), 4, 2, 3, 77])
    finder = SamePlace(patients.tolist(), ["a1"] * 5 + ["b1"] * 9 + ["c1"] * 3 + ["c2"], z)
    for seed in range(20):
        slices = np.arange(len(z))
        donors = finder.donors(slices, rng(seed))
        assert (patients[slices] != patients[donors]).all()
        of_b = donors[:5][patients[donors[:5]] == "b"]
        expected = 5 + 2 * np.flatnonzero(patients[donors[:5]] == "b")
        assert np.array_equal(of_b, expected)
    c_low, c_high = 15, 14
    assert {int(d) for s in range(20) for d in finder.donors(np.array([0]), rng(s))} == {5, c_low}
    assert {int(d) for s in range(20) for d in finder.donors(np.array([4]), rng(s))} == {13, c_high}


def test_finder_of_a_healthy_set(toy_case):
    healthy = HealthySet.from_cases([toy_case(i, slices=5 + i)[0] for i in range(3)])
    stack = healthy.array(View(size=32))
    donors = SamePlace.of(healthy, stack).donors(np.arange(len(stack)), rng())
    assert (stack.case_of[donors] != stack.case_of).all()
    height = np.concatenate([np.arange(n) / (n - 1) for n in (5, 6, 7)])
    assert np.abs(height[donors] - height).max() <= 0.5 / 4 + 1e-9


@pytest.mark.parametrize("blend", list(BLENDS))
def test_images_change_only_where_the_target_says_and_inside_both_organs(blend):
    images, rois, foreign, foreign_rois = pairs()
    before = images.copy()
    tolerance = 1e-3
    made, targets = ForeignPatches(BLENDS[blend], tolerance=tolerance)(images, rois, foreign, foreign_rois, rng(5))
    assert np.array_equal(images, before)
    changed = made != before
    assert np.array_equal(changed, targets > 0)
    assert not (changed & ~rois).any()
    assert (np.abs(made - before)[changed] > tolerance).all()
    assert 0 <= made.min() <= made.max() <= 1
    assert made.dtype == targets.dtype == np.float32
    values = [np.unique(t[t > 0]) for t in targets]
    assert all(len(v) == 1 for v in values)
    factors = np.concatenate(values)
    assert 0.05 <= factors.min() <= factors.max() <= 0.95
    assert np.ptp(factors) > 0.5


def test_interpolation_mixes_by_alpha_at_the_same_relative_position():
    images, rois, foreign, foreign_rois = pairs()
    made, targets = ForeignPatches(interpolate)(images, rois, foreign, foreign_rois, rng(6))
    for k in range(len(images)):
        ys, xs = np.nonzero(targets[k])
        centre = int(ys[0]), int(xs[0])
        # One changed pixel gives the shift; all others must then fit it. Rounding leaves it open by a pixel.
        guess = np.array(same_position(centre, np.array(bounds(rois[k])), np.array(bounds(foreign_rois[k])))) - centre
        alpha = targets[k][centre]
        fits = []
        for dy in range(-4, 5):
            for dx in range(-4, 5):
                y, x = ys + guess[0] + dy, xs + guess[1] + dx
                if min(y.min(), x.min()) >= 0 and max(y.max(), x.max()) < 48:
                    expected = (1 - alpha) * images[k][ys, xs] + alpha * foreign[k][y, x]
                    fits.append(np.allclose(made[k][ys, xs], expected, atol=1e-5))
        assert sum(fits) == 1


def test_equal_pixels_organs_that_never_meet_and_empty_ones_are_no_anomaly():
    images, rois, foreign, foreign_rois = pairs(3)
    made, targets = ForeignPatches(interpolate)(images, rois, images, rois, rng())
    assert np.array_equal(made, images)
    assert not targets.any()
    foreign_rois[0] = False
    foreign_rois[1], foreign_rois[2] = False, False
    foreign_rois[1, ::2, ::2] = True
    rois[2] = False
    made, targets = ForeignPatches(interpolate)(images, rois, foreign, foreign_rois, rng())
    assert not targets[[0, 2]].any()
    assert np.array_equal(made[[0, 2]], images[[0, 2]])


@given(st.integers(0, 2**32 - 1))
def test_patches_are_square_and_size_and_centre_lie_in_their_ranges(seed):
    roi = ellipse(64, (30, 34), (20, 14))
    paste = ForeignPatches(interpolate)
    centre, half = paste.draw_patch(roi, rng(seed))
    box = np.array(bounds(roi))
    sides = box[:, 1] - box[:, 0]
    assert roi[centre]
    assert half[0] == half[1]
    assert round(0.05 * sides.mean()) <= half[0] <= round(0.2 * sides.mean())
    for c, (low, _), side in zip(centre, box, sides, strict=True):
        assert 0.1 * side - 0.5 <= c - low <= 0.9 * side


def test_patches_at_the_edge_of_the_frame_are_cut_off():
    size = 16
    rois = np.ones((30, size, size), bool)
    images = rng(1).random(rois.shape).astype(np.float32)
    foreign = rng(2).random(rois.shape).astype(np.float32)
    for blend in BLENDS.values():
        paste = ForeignPatches(blend, half_width=(0.3, 0.5), centre_share=1.0)
        made, targets = paste(images, rois, foreign, rois, rng(3))
        assert (targets[:, 0].any(axis=1) | targets[:, -1].any(axis=1)).any()
        assert np.array_equal(made != images, targets > 0)


def test_window_has_a_ring_and_zeros_beyond_the_frame_and_boxes_map_onto_each_other():
    array = np.arange(1, 26).reshape(5, 5)
    assert np.array_equal(window(array, (2, 2), (1, 1)), array)
    corner = window(array, (0, 4), (1, 0))
    assert corner.shape == (5, 3)
    assert np.array_equal(corner[2:], np.column_stack([array[:3, 3:], np.zeros((3, 1))]))
    assert not corner[:2].any()
    box, other = np.array([[10, 20], [0, 8]]), np.array([[30, 50], [4, 8]])
    assert same_position((10, 0), box, other) == (31, 4)
    assert same_position((19, 7), box, other) == (49, 7)
    assert same_position((14, 3), box, box) == (14, 3)


def test_any_slice_is_never_the_same_and_reaches_all():
    found = AnySlice(5).donors(np.repeat(np.arange(5), 200), np.random.default_rng(0)).reshape(5, 200)
    assert [sorted(set(row.tolist())) for row in found] == [[j for j in range(5) if j != i] for i in range(5)]


def test_a_lone_patient_or_slice_has_no_donor(toy_case):
    healthy = HealthySet.from_cases([toy_case(0)[0]])
    with pytest.raises(DataError, match="two patients or more, found 1 \\(p0\\)"):
        SamePlace.of(healthy, healthy.array(View(size=32)))
    with pytest.raises(DataError, match="two healthy slices"):
        AnySlice(1)


def blended_directly(own, foreign, alpha):
    """Solve the discrete Poisson equation of Pérez et al. 2003 (their eq. 7 and 13) as one sparse system."""
    edge = np.pad(np.zeros_like(own[1:-1, 1:-1]), 1, constant_values=1) * own
    right = np.zeros_like(own)
    for step, axis in product((-1, 1), (0, 1)):
        weak, strong = ((a - np.roll(a, step, axis)) * share for a, share in ((own, 1 - alpha), (foreign, alpha)))
        right += np.where(abs(strong) > abs(weak), strong, weak) + np.roll(edge, step, axis)
    right = right[1:-1, 1:-1]
    rows, columns = (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1) for n in right.shape)
    return spsolve(sparse.kronsum(columns, rows, "csc"), right.ravel()).reshape(right.shape)


@pytest.mark.parametrize("shape", [(3, 3), (4, 7), (12, 9), (23, 31)])
@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_blend_equals_the_sparse_direct_solve(shape, alpha):
    rng = np.random.default_rng(sum(shape))
    own, foreign = rng.random((2, *shape))
    fast = poisson_blend(own, foreign, np.ones(shape, bool), alpha)
    assert fast.shape == (shape[0] - 2, shape[1] - 2)
    assert np.allclose(fast, blended_directly(own, foreign, alpha), atol=1e-9)


def test_gradients_across_the_edge_of_the_region_do_not_enter():
    own = np.random.default_rng(2).random((12, 12))
    foreign = own.copy()
    common = np.zeros((12, 12), bool)
    common[:, :6] = True
    foreign[~common] = 5.0
    weak = poisson_blend(own, foreign, common, 0.0)
    assert np.allclose(weak, own[1:-1, 1:-1])
    nothing = poisson_blend(own, foreign, np.zeros_like(common), 0.7)
    assert np.allclose(nothing, own[1:-1, 1:-1])
    both = poisson_blend(own, foreign, common, 0.7)
    assert np.abs(both).max() < 2


def test_loss_is_cross_entropy_with_soft_targets_inside_the_organ():
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 1, 5, 5, generator=generator), torch.rand(2, 1, 5, 5, generator=generator)
    roi = (torch.rand(2, 1, 5, 5, generator=generator) < 0.5).float()
    entropy = -(target * logits.sigmoid().log() + (1 - target) * (-logits).sigmoid().log())
    assert masked_cross_entropy(logits, target, roi).item() == pytest.approx(entropy[roi > 0].mean().item(), rel=1e-5)


def test_batches_carry_patches_of_other_patients_inside_the_organ(make_method, healthy):
    method = make_method(FPI, "smoke", {"batch": 24})
    clean, images, targets, rois = (a.numpy() for a in method.batch_source(healthy, FitContext(seed=0), "fit")())
    assert np.array_equal(clean != images, targets > 0)
    assert not (targets > 0)[~rois].any()
    assert (targets.reshape(24, -1).max(axis=1) > 0).mean() > 0.9
    assert set(method.preview(healthy, FitContext(seed=0))) == {"healthy", "with foreign patches", "target"}
    scores = method.score_view(clean, rois, (1.0, 1.0, 1.0))
    assert 0 <= scores.min() < scores.max() <= 1


def test_patches_have_no_seam(make_method, healthy):
    """At a patch's rim the blend stays close to the slice, where interpolation jumps."""
    steps = {}
    for cls in (FPI, PII):
        method = make_method(cls, "smoke", {"batch": 24, "half_width": (0.15, 0.25), "alpha": (0.9, 0.95)})
        clean, images, targets, rois = (a.numpy() for a in method.batch_source(healthy, FitContext(seed=0), "fit")())
        changed = targets > 0
        inner = changed[:, 1:-1, 1:-1] & changed[:, 2:, 1:-1] & changed[:, :-2, 1:-1]
        inner &= changed[:, 1:-1, 2:] & changed[:, 1:-1, :-2]
        rim = changed[:, 1:-1, 1:-1] & ~inner
        rim &= rois[:, 2:, 1:-1] & rois[:, :-2, 1:-1] & rois[:, 1:-1, 2:] & rois[:, 1:-1, :-2]
        away = np.abs(images - clean)[:, 1:-1, 1:-1]
        steps[cls.card.name] = away[rim].mean() / away[inner].mean()
    assert steps["pii"] < 0.8 * steps["fpi"]
