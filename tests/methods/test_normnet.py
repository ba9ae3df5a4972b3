"""NormNet: targets, crops, the vote, the decision, and the traps of the lung paper."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from uasbench.benchmark.stages.drive import score_together
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.config import by_stage, resolve
from uasbench.methods.context import FitContext
from uasbench.methods.normalcy.normnet import NormNet, NormNetConfig
from uasbench.methods.normalcy.parts.crops import HealthyCrops, fullness, target

TAU = 1 / 3


def test_the_whole_blob_and_all_dark_voxels_are_excluded_from_arrays_and_tensors():
    rng = np.random.default_rng(0)
    clean = rng.random((3, 14, 15), dtype=np.float32)
    blobs, roi = rng.random(clean.shape) < 0.3, rng.random(clean.shape) < 0.8
    marked = target(clean, blobs, roi, TAU)
    assert marked.dtype == bool
    for at in np.ndindex(clean.shape):
        assert marked[at] == (clean[at] >= np.float32(TAU) and roi[at] and not blobs[at])
    tensor = target(*(torch.from_numpy(a) for a in (clean, blobs, roi)), TAU)
    assert tensor.dtype == torch.bool
    assert np.array_equal(tensor.numpy(), marked)


def test_fullness_is_relative_to_the_fullest_crop():
    rois = np.zeros((3, 2, 4, 4), bool)
    rois[0, 0, :2] = True
    rois[1] = True
    assert fullness(rois).tolist() == [0.25, 1, 0]
    assert fullness(rois, most=64).tolist() == [0.125, 0.5, 0]
    assert fullness(rois, most=16).tolist() == [0.25, 1, 0]
    assert fullness(np.zeros((2, 2, 4, 4), bool)).tolist() == [0, 0]
    assert fullness(rois).dtype == np.float32


def lungs(number: int, *, lesion: bool = False, dropped: slice | None = None) -> tuple[Case, np.ndarray]:
    """Two air-filled ellipses with bright threads, and a bright ball on request."""
    rng = np.random.default_rng(number)
    z, y, x = np.mgrid[:24, :48, :48]
    roi = ((abs(x - 24) - 11) / 9) ** 2 + ((y - 24) / 17) ** 2 < 1
    threads = ndimage.gaussian_filter(rng.normal(size=roi.shape), (1.5, 0.8, 0.8))
    image = np.where(roi, -850 + rng.normal(0, 20, roi.shape), 40)
    image[roi & (threads > np.quantile(threads, 0.95))] = 20
    truth = np.zeros_like(roi)
    if lesion:
        truth = (((z - 12) / 4) ** 2 + ((y - 24) / 6) ** 2 + ((x - 35) / 5) ** 2 < 1) & roi
        image[truth] = -150 + rng.normal(0, 30, int(truth.sum()))
    if dropped is not None:
        roi[dropped] = False
    return Case(f"lung{number}", f"p{number}", image.astype(np.float32), (6.0, 7.0, 7.0), roi), truth


@pytest.fixture(scope="module")
def healthy() -> HealthySet:
    return HealthySet.from_cases([lungs(i)[0] for i in range(3)])


def train(make_method, healthy, limit=None, **values):
    method = make_method(NormNet, "smoke", values, anatomy="lung")
    method.fit(healthy, FitContext(seed=0, max_updates=limit))
    return method


def test_training_crops_lie_inside_contiguous_runs():
    case, _ = lungs(0, dropped=slice(10, 13))
    view = NormNet(resolve(NormNetConfig, "smoke", "lung")).view
    stack = HealthySet.from_cases([case]).volumes(view)
    crops = HealthyCrops(stack, 4, 1 / 3, 1.0)
    assert len(stack.runs) == 2
    rng, fullest = np.random.default_rng(0), 0
    for _ in range(20):
        _, rois, fullness = crops.draw(2, rng)
        assert rois.any(axis=(2, 3)).all(), "a slice of the crop has no lung: it bridges the gap"
        assert ((fullness > 0) & (fullness <= 1)).all()
        fullest = max(fullest, fullness.max())
    assert fullest == pytest.approx(1, abs=0.02)


def test_batches_show_lesions_and_their_whole_blobs_are_not_normal(make_method, healthy):
    method = make_method(NormNet, "smoke", {"batch": 4}, anatomy="lung")
    context = FitContext(seed=3)
    crops = method.crops(healthy)
    images, normal = method.batch_source(crops, context)()
    clean, rois, _ = crops.draw(4, context.rng("crops"))
    assert images.shape == (4, 1, 8, 32, 32)
    changed = images[:, 0].numpy() != clean
    assert (images[:, 0].numpy() >= clean).all()
    assert changed.any()
    assert not (changed & ~rois).any()
    assert not (normal.numpy() & changed).any()
    bright = (clean >= method.config.tau) & rois
    assert not (normal.numpy() & ~bright).any()
    assert normal.numpy().sum() < bright.sum(), "no bright voxel of a blob was taken out of the target"


@given(votes=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=7), healthy=st.floats(0.5, 0.99))
def test_exceeding_the_native_threshold_is_the_majority_vote(votes, healthy):
    """With an odd number of members; one member alone is its own majority."""
    votes = votes if len(votes) % 2 else votes[:-1]
    case = Case("c", "p", np.zeros((1, 1, 1), np.float32), (1, 1, 1), np.ones((1, 1, 1), bool))

    class Member:
        card, view = NormNet.card, None

        def __init__(self, value):
            self.value = value

        def score(self, case):
            return np.full(case.image.shape, self.value, np.float32)

    map_ = score_together([Member(v) for v in votes], case)
    threshold = np.float32(1 - healthy)
    assert (map_[0, 0, 0] > threshold) == (sum(np.float32(v) > threshold for v in votes) > len(votes) / 2)


def test_any_odd_number_of_members_may_vote():
    assert [resolve(NormNetConfig, "paper", "lung", {"votes": odd}).votes for odd in (1, 3, 7)] == [1, 3, 7]


def test_map_marks_bright_voxels_of_the_lung_only(make_method, healthy):
    method = train(make_method, healthy)
    seen = apply_view(lungs(7, lesion=True)[0], method.view)
    map_ = method.score_view(seen.image, seen.roi, (1, 1, 1))
    bright = (seen.image >= np.float32(method.config.tau)) & seen.roi
    assert map_.dtype == np.float32
    assert not map_[~bright].any()
    assert ((map_[bright] > 0) & (map_[bright] < 1)).all()


def test_decision_takes_dim_voxels_beside_bright_ones_only_when_it_grows(make_method, healthy):
    case, truth = lungs(7, lesion=True)
    masks = {}
    for grow in (True, False):
        method = train(make_method, healthy, limit=0, grow=grow)
        seen = apply_view(case, method.view)
        lesion = seen.geometry.mask_to_view(truth)
        scores = np.where(lesion & (seen.image >= method.config.tau), 0.9, 0.0).astype(np.float32)
        masks[grow] = method.postprocess_view(seen.image, seen.roi, scores, (1, 1, 1))
        assert not (masks[grow] & ~seen.roi).any()
    assert not (masks[False] & ~masks[True]).any()
    assert masks[True].sum() > masks[False].sum() > 0
    assert (masks[True] & lesion).sum() > 0.5 * lesion.sum()


def test_checkpoints_are_kept_for_the_iterations_of_table_4(make_method, healthy):
    method = make_method(NormNet, "smoke", {"checkpoints": (1, 2)}, anatomy="lung")
    names = []
    method.fit(healthy, FitContext(seed=0, save_checkpoint=names.append))
    assert names == ["it-1", "it-2"]


def test_loss_is_soft_dice_plus_cross_entropy(make_method, toy_net, healthy, monkeypatch):
    draws = torch.Generator().manual_seed(0)
    normal = torch.rand((2, 3, 4, 5), generator=draws) < 0.3
    logits = torch.randn((1, 2, 3, 4, 5), generator=draws)
    logged = []
    method = make_method(NormNet, "smoke", {"lr": "3e-4"}, anatomy="lung")
    method.net = toy_net(lambda x, w: w.expand(len(x), -1, -1, -1, -1), logits.clone())
    monkeypatch.setattr(method, "batch_source", lambda *_: lambda: (torch.zeros(2, 1, 3, 4, 5), normal))
    method.fit(healthy, FitContext(seed=0, max_updates=1, on_log=lambda _, v: logged.append(v)))

    p = torch.softmax(logits, 1).expand(2, -1, -1, -1, -1)
    truth = torch.stack([~normal, normal], 1).float()
    shared, both = ((t.sum((2, 3, 4)) + 1e-5) for t in (2 * p * truth, p + truth))
    dice, ce = 1 - (shared / both).mean(), -(truth * p.log()).sum(1).mean()
    assert logged == [{"dice + ce": pytest.approx((dice + ce).item(), rel=1e-5)}]


def test_liver_is_declined_with_the_assumption_and_runs_when_told_to():
    liver = NormNet(resolve(NormNetConfig, "quick", "liver"))
    assert "brighter" in str(liver.skip())
    told = resolve(NormNetConfig, "quick", "liver", {"bright_lesions": "on"})
    assert NormNet(told).skip() is None
    assert 0 < told.tau < 1
    assert NormNet(resolve(NormNetConfig, "quick", "lung")).skip() is None


@pytest.mark.parametrize("table", ["table4", "table5", "table6"])
def test_tables_of_the_paper_are_configurations(table):
    from uasbench.benchmark.experiments import load

    plan = load(f"lung/{table}")
    for variant in plan.variants:
        config = resolve(NormNetConfig, "paper", "lung", variant.settings)
        if config.checkpoint != "last":
            assert int(config.checkpoint.removeprefix("it-")) in config.checkpoints
    fits = {str(by_stage(resolve(NormNetConfig, "paper", "lung", v.settings))[0]) for v in plan.variants}
    assert len(fits) == {"table4": 1, "table5": 4, "table6": 5}[table]


def test_table_4_is_every_member_and_their_vote_at_every_checkpoint():
    from uasbench.benchmark.experiments import load

    configs = [resolve(NormNetConfig, "paper", "lung", v.settings) for v in load("lung/table4").variants]
    checkpoints = {f"it-{n}" for n in range(2000, 5000, 500)}
    assert {(c.member, c.checkpoint) for c in configs} == {(m, c) for m in (None, 1, 2, 3, 4, 5) for c in checkpoints}
    assert [NormNet(c).members for c in configs if c.checkpoint == "it-2000"] == [5, (0,), (1,), (2,), (3,), (4,)]
