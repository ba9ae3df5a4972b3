"""The MOOD U-Net: network, shapes, blends, donors, targets, loss, score."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional
from uasbench.common.errors import DataError
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import ConfigError, resolve
from uasbench.methods.context import FitContext
from uasbench.methods.losses import masked_cross_entropy_pyramid
from uasbench.methods.nets.mood_unet import MoodUNet
from uasbench.methods.pseudo_anomaly.mood_unet import MoodUNetMethod
from uasbench.methods.pseudo_anomaly.parts.crop_changes import CropChanges, bias_field
from uasbench.methods.synthesis import foreign_patch
from uasbench.methods.synthesis.blend_shapes import BlendShapes, softened
from uasbench.methods.synthesis.foreign_volume import PatchChanges, transformed
from uasbench.methods.synthesis.volume_blends import blend_gradients, blend_linear, solve_poisson

SMALL = BlendShapes(sides=(4, 16))


def test_the_network_has_the_published_size():
    widths = (32, 64, 128, 256, 320, 320)

    def stage(i: int, o: int) -> int:
        return 27 * i * o + 27 * o * o + 4 * o

    down = sum(stage(i, o) for i, o in pairwise((1, *widths)))
    up = sum(8 * i * o + stage(2 * o, o) for i, o in pairwise(widths[::-1]))
    with torch.device("meta"):
        net = MoodUNet()
        sides = [out.shape[2] for out in net.pyramid(torch.empty(1, 1, 64, 64, 64))]
    assert sum(p.numel() for p in net.parameters()) == down + up + sum(widths[:4]) == 31_189_824
    assert sides == [64, 32, 16, 8]


def test_instance_normalisation_does_not_look_at_the_batch():
    net = MoodUNet((4, 8), norm="instance").train()
    x = torch.rand(2, 1, 8, 8, 8)
    assert torch.allclose(net(x)[:1], net(x[:1]), atol=1e-5)


@pytest.mark.parametrize("kind", ["cuboid", "ball", "rough"])
def test_shapes_lie_in_the_middle_and_have_sides_of_the_range(kind):
    rng = np.random.default_rng(0)
    extents = []
    for _ in range(40):
        shape = getattr(SMALL, kind)(rng)
        assert shape.shape == (16, 16, 16)
        assert shape[7:9, 7:9, 7:9].any()
        extents.append([np.ptp(np.flatnonzero(shape.any(axis=axes))) + 1 for axes in ((1, 2), (0, 2), (0, 1))])
    assert 2 <= np.min(extents) < 8 < np.max(extents) <= 16
    if kind == "ball":
        assert all(max(e) == min(e) for e in extents)
    else:
        assert any(max(e) > min(e) + 1 for e in extents)


def test_strength_and_edge_are_drawn():
    rng = np.random.default_rng(1)
    masks = [SMALL(rng) for _ in range(60)]
    peaks = np.array([mask.max() for mask in masks])
    hard = np.array([len(np.unique(mask[mask > 0])) == 1 for mask in masks])
    assert 0.0 < peaks.min() <= peaks.max() <= 1
    assert 0.3 < hard.mean() < 0.7  # half of the kernels are of one voxel
    assert 0.3 <= peaks[hard].min() < 0.5 < peaks[hard].max()


def test_the_soft_edge_is_the_released_kernel():
    spot = np.zeros((9, 9, 9), np.float32)
    spot[4, 4, 4] = 1
    d = np.arange(-2, 3)
    squares = d[:, None, None] ** 2 + d[:, None] ** 2 + d**2
    kernel = np.exp(-squares / 4)  # (d / 2σ)² with σ 1
    assert np.allclose(softened(spot, 5)[2:7, 2:7, 2:7], kernel / kernel.sum(), atol=1e-6)
    assert softened(spot, 1) is spot


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_blends_of_an_empty_mask_or_of_the_same_volume_change_nothing(seed):
    rng = np.random.default_rng(seed)
    own, foreign, mask = (torch.from_numpy(rng.random((6, 7, 8), np.float32)) for _ in range(3))
    for blend in (blend_linear, blend_gradients):
        assert torch.allclose(blend(own, foreign, torch.zeros_like(own)), own, atol=1e-6)
        assert torch.allclose(blend(own, own, mask), own, atol=1e-6)
        out = blend(own, foreign, mask)
        assert 0 <= out.min() <= out.max() <= 1
    wide = blend_gradients(own, foreign * 50, mask)  # the release leaves [0, 1] here
    assert wide.max() <= 1


def test_a_full_gradient_blend_solves_poissons_equation_in_three_dimensions():
    rng = np.random.default_rng(0)
    own = np.full((7, 8, 9), 0.5) + 1e-4 * rng.random((7, 8, 9))
    foreign = 0.5 + 0.05 * rng.standard_normal(own.shape)  # its gradients are the larger ones
    found = blend_gradients(*map(torch.from_numpy, (own, foreign, np.ones_like(own)))).numpy()
    kernel = ndimage.generate_binary_structure(3, 1).astype(float)
    kernel[1, 1, 1] = -6
    laplacians = (ndimage.convolve(volume, kernel)[1:-1, 1:-1, 1:-1] for volume in (found, foreign))
    assert np.allclose(*laplacians, atol=1e-9)
    faces = np.ones_like(own, bool)
    faces[1:-1, 1:-1, 1:-1] = False
    assert np.allclose(found[faces], own[faces], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 12)] * 3), seed=st.integers(0, 10**6))
def test_products_with_sines_solve_what_fast_transforms_solve(shape, seed):
    divergence = np.random.default_rng(seed).standard_normal(shape)
    found = solve_poisson(torch.from_numpy(divergence)).numpy()
    assert np.allclose(found, foreign_patch.solve_poisson(divergence), atol=1e-10)


def test_no_background_enters_a_gradient_blend():
    rng = np.random.default_rng(2)
    own, foreign, mask, noise = (torch.from_numpy(rng.random((8, 8, 8), np.float32)) for _ in range(4))
    mask[:, :, 4:] = 0
    other = torch.where(mask > 0, foreign, noise)
    assert torch.allclose(blend_gradients(own, foreign, mask), blend_gradients(own, other, mask), atol=1e-6)


def test_a_turned_piece_takes_nothing_from_outside_the_organ():
    roi = np.zeros((12, 12, 12), bool)
    roi[3:9, 3:9, 3:9] = True
    image = np.where(roi, 0.6, 9.0).astype(np.float32)
    turn = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    turned, inside = transformed(image, roi, turn)
    assert np.allclose(turned[inside], 0.6, atol=1e-5)
    assert not turned[~inside].any()
    assert abs(int(inside.sum()) - int(roi.sum())) < 0.15 * roi.sum()
    same, kept = transformed(image * roi, roi, np.eye(3))
    assert np.allclose(same, image * roi, atol=1e-6)
    assert np.array_equal(kept, roi)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_turning_reads_as_scipy_does(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 9, 3))
    image, roi = rng.random(shape, np.float32), rng.random(shape) < 0.8
    matrix = np.eye(3) + 0.5 * rng.standard_normal((3, 3))
    middle = (np.array(shape) - 1) / 2
    share, total = (
        ndimage.affine_transform(volume.astype(float), matrix, middle - matrix @ middle, order=1)
        for volume in (roi, image * roi)
    )
    found, inside = transformed(image, roi, matrix)
    clear = np.abs(share - 0.5) > 1e-9
    assert np.array_equal(inside[clear], share[clear] > 0.5)
    assert np.allclose(found[inside], total[inside] / share[inside], atol=1e-6)
    assert not found[~inside].any()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), change=st.sampled_from([CropChanges(probability=0.6), PatchChanges(probability=0.6)])
)
def test_changes_keep_grey_values_in_range_and_the_background_at_zero(seed, change):
    rng = np.random.default_rng(seed)
    roi = ndimage.zoom(rng.random((2, 3, 3)), (4, 4, 4), order=1) > 0.4
    image, organ = change((rng.random(roi.shape) * roi).astype(np.float32), roi, rng)
    assert image.dtype == np.float32
    assert image.shape == organ.shape == roi.shape
    assert 0 <= image.min() <= image.max() <= 1
    assert not image[~organ].any()


def test_without_changes_a_crop_stays_and_the_bias_field_is_smooth():
    rng = np.random.default_rng(0)
    image, roi = rng.random((4, 6, 6)).astype(np.float32), np.ones((4, 6, 6), bool)
    assert np.array_equal(CropChanges(probability=0.0)(image, roi, rng)[0], image)
    field = bias_field((20, 20, 20), (0.0, 0.3), rng)
    assert field.dtype == np.float32
    assert field.min() > 0
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in range(3)) < 0.5 * field.max()
    assert np.ptp(bias_field((5, 5, 5), (0.0, 0.0), rng)) == 0


def samples(method: MoodUNetMethod, scans: HealthySet, count: int = 6):
    draw = method.batch_source(scans, FitContext(0), "fit")
    return [np.concatenate(parts) for parts in zip(*(draw() for _ in range(count)), strict=True)]


@pytest.mark.parametrize("blend", ["poisson", "linear"])
def test_anomalies_are_organ_and_targets_are_the_soft_masks(make_method, healthy_volumes, blend):
    method = make_method(MoodUNetMethod, "smoke", {"blend": blend})
    clean, images, targets, rois = samples(method, healthy_volumes)
    assert np.array_equal(images[~rois], clean[~rois])
    assert not targets[~rois].any()
    assert 0 <= targets.min() < targets.max() <= 1
    assert len(np.unique(targets)) > 3  # neither thresholded nor all of one strength
    with_anomaly = targets.any(axis=(1, 2, 3))
    assert 0.5 < with_anomaly.mean() <= 1
    assert np.array_equal(images[~with_anomaly], clean[~with_anomaly])
    if blend == "linear":
        assert np.array_equal(images[targets == 0], clean[targets == 0])


def test_no_anomaly_no_target(make_method, healthy_volumes):
    method = make_method(MoodUNetMethod, "smoke", {"probability": 0.0, "change_p": 0.0})
    clean, images, targets, _ = samples(method, healthy_volumes, 2)
    assert np.array_equal(images, clean)
    assert not targets.any()


def test_pieces_come_from_other_patients(make_method, healthy_volumes, monkeypatch):
    """Each patient has grey values of its own, by which a piece is recognised."""
    cases = [
        type(case)(
            case.id, case.patient, np.where(case.roi, 20.0 + 40 * i, -1000).astype(np.float32), case.spacing, case.roi
        )
        for i, case in enumerate(healthy_volumes)
    ]
    method, foreign = make_method(MoodUNetMethod, "smoke", {"change_p": 0.0, "probability": 1.0}), []

    def note(roi, piece, rng):
        foreign.append(np.median(piece[0][piece[1]]))

    monkeypatch.setattr(method, "placed", note)
    clean, images, _, rois = samples(method, HealthySet.from_cases(cases), 20)
    assert np.array_equal(images, clean)
    own = [np.median(image[roi]) for image, roi in zip(clean, rois, strict=True)]
    assert len({round(float(value), 3) for value in own}) == 3
    assert np.abs(np.subtract(own, foreign)).min() > 0.02


def test_one_patient_needs_donors_from_the_same_scan(make_method, healthy_volumes):
    alone = HealthySet.from_cases(list(healthy_volumes)[:1])
    with pytest.raises(DataError, match="donors=scans"):
        make_method(MoodUNetMethod).batch_source(alone, FitContext(0), "fit")
    method = make_method(MoodUNetMethod, "smoke", {"donors": "scans"})
    assert method.min_patients == 1
    assert samples(method, alone)[2].any()


def test_loss_is_the_cross_entropy_in_the_organ_at_weighted_scales():
    generator = torch.Generator().manual_seed(0)
    target, roi = torch.rand((2, 1, 8, 8, 8), generator=generator), torch.rand((2, 1, 8, 8, 8), generator=generator)
    roi = (roi > 0.5).float()
    logits = [torch.randn((2, 1, n, n, n), generator=generator) for n in (8, 4, 2)]
    wanted = 0.0
    for weight, level in zip((4 / 7, 2 / 7, 1 / 7), logits, strict=True):
        small = [functional.interpolate(a, level.shape[2:], mode="trilinear") for a in (target, roi)]
        p = level.sigmoid()
        entropy = -(small[0] * p.log() + (1 - small[0]) * (1 - p).log())
        wanted += weight * (entropy * small[1]).sum() / small[1].sum()
    assert float(masked_cross_entropy_pyramid(logits, target, roi)) == pytest.approx(float(wanted), rel=1e-5)


def test_learning_rate_makes_one_cycle(train, healthy_volumes, rates):
    train(MoodUNetMethod, healthy_volumes, updates=10, lr=1e-2)
    assert max(rates) == pytest.approx(1e-2)
    assert rates[0] == pytest.approx(1e-2 / 25)
    assert rates[-1] < 1e-6
    assert rates.index(max(rates)) == 2  # after three tenths


def test_score_is_the_sigmoid_of_averaged_logits_in_the_organ(make_method, toy_net):
    method = make_method(MoodUNetMethod)
    method.net = toy_net(lambda x, w: 6 * x - 3 + w)
    rng = np.random.default_rng(0)
    roi = np.zeros((10, 32, 32), bool)
    roi[1:9, 5:29, 5:29] = True
    array = rng.random(roi.shape).astype(np.float32)
    found = method.score_view(array, roi, (8.0, 10.0, 10.0))
    assert np.allclose(found, roi / (1 + np.exp(3 - 6 * array)), atol=1e-5)
    assert found.dtype == np.float32


def test_shapes_that_do_not_fit_are_refused():
    for values, said in (({"sides": (10, 161)}, "sides"), ({"crop": (96, 96, 64), "sides": (10, 64)}, "crop")):
        with pytest.raises(ConfigError, match=said):
            resolve(MoodUNetMethod.Config, "paper", None, values)
