"""Methods on patch features: which patches count, where their scores go, the memory, the subspace, weights of files."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from uasbench.common.errors import DataError
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.config import ConfigError
from uasbench.methods.context import FitContext, TrainingError
from uasbench.methods.features.anomaly_dino import AnomalyDINO, cosine_neighbours
from uasbench.methods.features.dpmm import DPMM
from uasbench.methods.features.parts.backbone import LITE0, smooth, upsample
from uasbench.methods.features.parts.patches import FIXED_DRAW, spread
from uasbench.methods.features.subspace_ad import SubspaceAD, leading
from uasbench.methods.nets.weights import WeightsError
from uasbench.methods.training import as_input

EVERY = (AnomalyDINO, SubspaceAD, DPMM)


def organ_patches(method, scans) -> np.ndarray:
    """The patches that the organ fills by half, one by one: an independent way to what is learned from."""
    stack = scans.array(method.view)
    images, rois = stack.take(range(len(stack)))
    grid = method.grid(as_input(images, "cpu")).numpy()
    side = method.backbone.strides[0]
    found = [
        grid[n, y, x]
        for n, roi in enumerate(rois)
        for y in range(grid.shape[1])
        for x in range(grid.shape[2])
        if roi[y * side : (y + 1) * side, x * side : (x + 1) * side].mean() >= 0.5
    ]
    return np.array(found)


@pytest.mark.parametrize("crop", ["frame", "roi"])
def test_the_memory_holds_the_patches_that_the_organ_fills_and_no_other(train, healthy, crop):
    method, curve = train(AnomalyDINO, crop=crop)
    wanted = organ_patches(method, healthy)
    assert np.allclose(method.bank, wanted, atol=1e-6)
    assert np.allclose(np.linalg.norm(method.bank, axis=1), 1, atol=1e-5)
    assert curve[-1]["patches"] == len(wanted) == method.found == method.extracted
    whole, _ = train(AnomalyDINO, crop=crop, roi_only=False)
    assert len(whole.bank) == 24 * 4 * 4 > len(wanted)


def test_the_map_is_the_cosine_distance_to_the_nearest_patch(train, toy_case):
    method, _ = train(AnomalyDINO, roi_only=False, sigma=0.0)
    case = toy_case(9, lesion=True)[0]
    seen = apply_view(case, method.view)
    found = method.score_view(seen.image, seen.roi, case.spacing)
    grid = method.grid(as_input(seen.image, "cpu")).numpy().reshape(-1, method.width)
    distances, _ = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(method.bank).kneighbors(grid)
    wanted = upsample(torch.from_numpy(distances.reshape(-1, 4, 4)).float(), 64).numpy()
    assert np.allclose(found, wanted, atol=1e-5)


@given(k=st.integers(1, 9), queries=st.integers(1, 20), chunk=st.sampled_from([1, 200, 2**20]))
@settings(max_examples=20, deadline=None)
def test_neighbours_are_those_of_scikit_learn_in_any_chunks(k, queries, chunk):
    rng = np.random.default_rng(k)
    bank, wanted = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(queries, 5)).astype(np.float32)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    fitted = NearestNeighbors(n_neighbors=min(k, 7), metric="cosine", algorithm="brute").fit(bank)
    found = cosine_neighbours(torch.from_numpy(wanted), torch.from_numpy(bank), k, chunk)
    assert np.allclose(found, fitted.kneighbors(wanted)[0].mean(axis=1), atol=1e-5)


def test_the_subspace_is_that_of_scikit_learn(train, healthy, toy_case):
    method, _ = train(SubspaceAD, roi_only=False, sigma=0.0, explained=0.9)
    stack = healthy.array(method.view)
    vectors = method.grid(as_input(stack.take(range(24))[0], "cpu")).numpy().reshape(-1, method.width).astype(float)
    pca = PCA(0.9, svd_solver="full").fit(vectors)
    assert method.basis.shape == (64, pca.n_components_)
    assert np.allclose(method.mean, pca.mean_, atol=1e-5)
    case = toy_case(9, lesion=True)[0]
    seen = apply_view(case, method.view)
    grid = method.grid(as_input(seen.image, "cpu")).numpy().reshape(-1, method.width).astype(float)
    left = ((grid - pca.inverse_transform(pca.transform(grid))) ** 2).sum(axis=1)
    wanted = upsample(torch.from_numpy(left.reshape(-1, 4, 4)).float(), 64).numpy()
    found = method.score_view(seen.image, seen.roi, case.spacing)
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-3 * wanted.max())


def test_the_fewest_components_that_hold_the_share():
    covariance = torch.diag(torch.tensor([1.0, 90.0, 9.0], dtype=torch.float64))
    for explained, k, held in ((0.5, 1, 0.9), (0.9, 1, 0.9), (0.95, 2, 0.99), (1.0, 3, 1.0)):
        basis, share = leading(covariance, explained)
        assert (basis.shape, share) == ((3, k), pytest.approx(held))
    basis, share = leading(covariance, 0.5, dims=2)
    assert (basis.shape, share) == ((3, 2), pytest.approx(0.99))
    assert torch.allclose(basis.abs(), torch.tensor([[0, 0], [1, 0], [0, 1]], dtype=torch.float64))
    assert leading(torch.zeros(3, 3, dtype=torch.float64), 0.99)[0].shape[0] == 3


def test_the_map_of_the_subspace_is_smoothed_by_a_kernel_of_three_pixels():
    maps = torch.rand(1, 9, 9)
    weights = np.exp(-np.array([1.0, 0.0, 1.0]) / 32)
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    assert np.allclose(smooth(maps, 4.0, 1)[0], convolve(maps[0].numpy(), kernel, mode="mirror"), atol=1e-6)


def test_scores_spread_from_the_organ_outwards():
    scores, known = torch.zeros(2, 4, 5), torch.zeros(2, 4, 5, dtype=torch.bool)
    scores[0, 0, 0], scores[0, 0, 4], known[0, 0, 0], known[0, 0, 4] = 1.0, 3.0, True, True
    found = spread(scores, known)
    assert torch.equal(found[0, 0], torch.tensor([1.0, 1.0, 2.0, 3.0, 3.0]))
    assert found[0].min() == 1
    assert torch.equal(found[1], scores[1]), "nothing is known there"


@pytest.mark.parametrize("cls", EVERY)
def test_what_lies_outside_the_organ_changes_no_score(cls, train, toy_case):
    """Neither by the patches that are scored, nor by enlarging or smoothing."""
    method, _ = train(cls)
    case = toy_case(9, lesion=True)[0]
    seen = apply_view(case, method.view)
    roi = seen.roi.copy()
    roi[:, :, 32:] = False
    whole, half = (method.score_view(seen.image, mask, case.spacing) for mask in (seen.roi, roi))
    assert np.isfinite(half).all()
    assert half.min() >= 0
    assert half[roi].min() > 0 or whole[roi].min() == 0, "no zero of an unscored patch is mixed in"


def test_a_slice_whose_organ_fills_no_patch_is_scored_all_the_same(train):
    method, _ = train(AnomalyDINO)
    roi = torch.zeros(3, 64, 64, dtype=torch.bool)
    roi[0, 14:18, 14:18], roi[1, :16, :12] = True, True
    few, at_least_one = method.cells(roi, at_least_one=False), method.cells(roi, at_least_one=True)
    assert [int(mask.sum()) for mask in few] == [0, 1, 0]
    assert [int(mask.sum()) for mask in at_least_one] == [4, 1, 0]
    maps = method.score_view(np.random.default_rng(0).random((3, 64, 64), np.float32), roi.numpy(), (1, 1, 1))
    assert (maps[:2] > 0).all()


@pytest.mark.parametrize("cls", [AnomalyDINO, SubspaceAD])
def test_of_many_patches_every_nth_is_taken_whatever_the_seed(cls, train, healthy, make_method):
    method, _ = train(cls, max_patches=37)
    found = organ_patches(method, healthy)
    assert (method.found, method.extracted) == (len(found), 37)
    assert method.provenance()["patches"] == f"37 of {len(found)} extracted"
    chosen = [n for n in range(len(found)) if (n + 1) * 37 // len(found) > n * 37 // len(found)]
    if cls is AnomalyDINO:
        assert np.allclose(method.bank, found[chosen], atol=1e-6)
    else:
        assert np.allclose(method.mean, found[chosen].mean(axis=0), atol=1e-5)
    other = make_method(cls, "smoke", {"max_patches": 37}, "liver", 1)
    assert other.weights_used == method.weights_used
    assert other.weights_used["seed"] == str(FIXED_DRAW)


def test_too_many_patches_and_no_patch_are_refused(train, healthy, toy_case):
    with pytest.raises(DataError, match="lower max_patches"):
        train(AnomalyDINO, max_gib=1e-6)
    train(SubspaceAD, max_gib=1e-6)  # it keeps none of them
    case = toy_case(0)[0]
    case.roi[:] = False
    case.roi[:, 30, 30] = True
    for cls in EVERY:
        with pytest.raises(TrainingError, match="fills 50% of no patch in 8 slices"):
            train(cls, HealthySet.from_cases([case]))


@pytest.mark.parametrize("cls", EVERY)
def test_a_convolutional_backbone_takes_its_stages(cls, train, toy_case):
    method, _ = train(cls, profile="quick", size=64, max_patches=500, sigma=0.0)
    assert (method.config.backbone, method.width, method.backbone.strides[0]) == (LITE0, 152, 8)
    images = torch.rand(2, 1, 64, 64)
    fine, coarse = method.features(images)
    wide = torch.nn.functional.interpolate(coarse, size=(8, 8), mode="bilinear", align_corners=False)
    wanted = torch.cat([fine, wide], dim=1).permute(0, 2, 3, 1)
    unit = method.config.unit
    assert torch.allclose(method.grid(images), wanted / wanted.norm(dim=3, keepdim=True) if unit else wanted, atol=1e-5)
    assert np.ptp(method.score(toy_case(9, lesion=True)[0])) > 0


def test_the_view_is_filled_by_the_organ_or_shows_the_frame(make_method, toy_case):
    case = toy_case(0)[0]
    filled, wide, frame = (
        apply_view(case, make_method(AnomalyDINO, "smoke", values).view).roi
        for values in ({"crop": "roi"}, {"crop": "roi", "field_of_view": 80}, {"crop": "frame", "field_of_view": 80})
    )
    tight, looser, loosest = (int(roi.any(axis=(0, 2)).sum()) for roi in (filled, wide, frame))
    assert tight >= 62
    assert tight > looser > loosest


@pytest.mark.parametrize("cls", EVERY)
def test_without_weights_the_published_backbone_is_skipped_with_every_way_to_provide_them(cls, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("UASBENCH_WEIGHTS", raising=False)
    monkeypatch.setattr("uasbench.methods.nets.weights._refusal", lambda name: "the hub does not answer")
    said = cls().skip() or ""
    for word in (cls().config.backbone, "UASBENCH_WEIGHTS", "weights=/path", "random"):
        assert word in said
    with pytest.raises(WeightsError):
        cls().build()


def test_weights_of_a_file_are_recorded_and_a_state_refuses_others(tmp_path, make_method, healthy, toy_case):
    method = make_method(DPMM)
    torch.save(method.backbone.net.state_dict(), tmp_path / "test_vit.pth")
    own = make_method(DPMM, "smoke", {"weights": str(tmp_path)})
    assert {k: own.weights_used[k] for k in ("source", "file")} == {"source": "file", "file": "test_vit.pth"}
    assert own.weights_used["sha256"] == method.weights_used["sha256"] == own.extra_identity()
    own.fit(healthy, FitContext(seed=0))
    own.save(tmp_path / "last.pt")
    again = DPMM(own.config)
    again.load(tmp_path / "last.pt")
    case = toy_case(9, lesion=True)[0]
    assert np.array_equal(again.score(case), own.score(case))
    torch.save(make_method(DPMM, seed=1).backbone.net.state_dict(), tmp_path / "test_vit.pth")
    with pytest.raises(WeightsError, match="was made on weights of test_vit"):
        DPMM(own.config).load(tmp_path / "last.pt")


def test_a_block_that_is_not_there_is_refused(make_method):
    with pytest.raises(ConfigError, match="blocks 0 to 5"):
        make_method(AnomalyDINO, "smoke", {"blocks": (11,)})
