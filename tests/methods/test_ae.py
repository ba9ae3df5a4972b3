"""The autoencoder: published settings, training, score switches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import by_stage, resolve
from uasbench.methods.context import FitContext, TrainingError
from uasbench.methods.early_stopping import hold_out, train_until_no_gain
from uasbench.methods.reconstruction.ae import AE, AEConfig
from uasbench.methods.reconstruction.dae import inner_foreground
from uasbench.methods.reconstruction.parts.residual import (
    erode_in_plane,
    median_in_plane,
    median_in_volume,
    residual,
)


def test_the_edge_of_the_organ_is_reported_with_and_without_erosion():
    from uasbench.benchmark.experiments import load

    rows = {v.label: resolve(AEConfig, "paper", "liver", v.set) for v in load("liver/erosion").variants}
    assert {label: config.erode for label, config in rows.items()} == {"whole": 0, "eroded": 3}
    assert by_stage(rows["whole"])[0] == by_stage(rows["eroded"])[0]


def test_affine_norms_keep_no_statistics(make_method):
    assert not any("running" in key for key in make_method(AE, "smoke", {"norm": "affine"}).net.state_dict())


class Grey(torch.nn.Module):
    def forward(self, x):
        return torch.full_like(x, 0.5)


def test_loss_is_the_mean_absolute_error_per_pixel(make_method):
    method = make_method(AE)
    method.net = Grey()
    x = torch.rand((4, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    losses = method.losses(x, torch.ones_like(x, dtype=torch.bool), torch.Generator())
    assert list(losses) == ["l1"]
    assert losses["l1"].item() == pytest.approx((x - 0.5).abs().mean().item())


@pytest.mark.parametrize(
    ("sign", "darker", "brighter"), [("absolute", 0.4, 0.3), ("positive", 0, 0.3), ("negative", 0.4, 0)]
)
def test_sign_of_the_residual(make_method, sign, darker, brighter):
    method = make_method(AE, "smoke", {"sign": sign})
    method.net = Grey()
    array, roi = np.full((1, 32, 32), 0.5, np.float32), np.zeros((1, 32, 32), bool)
    roi[0, 4:28, 4:28] = True
    array[0, 10, 10], array[0, 20, 20], array[0, 1, 1] = 0.1, 0.8, 0.9
    scores = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert scores[0, 10, 10] == pytest.approx(darker)
    assert scores[0, 20, 20] == pytest.approx(brighter)
    assert scores[0, 1, 1] == 0


def test_erosion_and_median_act_on_the_map(make_method):
    array, roi = np.full((5, 32, 32), 0.5, np.float32), np.zeros((5, 32, 32), bool)
    roi[:, 4:28, 4:28] = True
    array[:, 4:8, 4:28] = 0.9
    array[2, 20, 20] = 0.9
    maps = {}
    for name, values in {"plain": {}, "erode": {"erode": 3}, "median": {"median": 5}}.items():
        method = make_method(AE, "smoke", values)
        method.net = Grey()
        maps[name] = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert maps["plain"][2, 4, 15] == pytest.approx(0.4)
    assert not maps["erode"][:, 4:7].any()
    assert maps["erode"][2, 7, 15] == pytest.approx(0.4)
    assert maps["median"][2, 20, 20] == 0
    assert maps["median"][2, 6, 15] == pytest.approx(0.4)


maps_3d = hnp.arrays(np.float32, (3, 7, 7), elements=st.floats(0, 1, width=32))


@given(image=maps_3d, reconstruction=maps_3d)
@settings(max_examples=30, deadline=None)
def test_the_two_parts_of_a_residual_add_up(image, reconstruction):
    positive, negative = (residual(image, reconstruction, sign) for sign in ("positive", "negative"))
    assert np.array_equal(positive + negative, residual(image, reconstruction, "absolute"))
    assert not (positive * negative).any()


@given(map_=maps_3d, roi=hnp.arrays(bool, (3, 7, 7)))
@settings(max_examples=30, deadline=None)
def test_filters_that_are_off_change_nothing_and_erosion_only_removes(map_, roi):
    assert median_in_plane(map_, 0) is map_
    assert median_in_volume(map_, 0) is map_
    assert erode_in_plane(roi, 0) is roi
    assert inner_foreground(roi, 0, 0.95) is roi
    assert not (erode_in_plane(roi, 1) & ~roi).any()
    assert not (inner_foreground(roi, 5, 0.95) & ~roi).any()


def test_median_filters_equal_opencv_and_numpy():
    import cv2

    map_ = np.random.default_rng(0).random((5, 12, 12)).astype(np.float32)
    expected = np.stack([cv2.medianBlur(a, 5) for a in map_])
    assert np.array_equal(median_in_plane(map_, 5)[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2])
    assert median_in_volume(map_, 5)[2, 6, 6] == np.median(map_[0:5, 4:9, 4:9])


def test_held_out_part_is_split_by_patient(healthy):
    stack = healthy.array(AE(resolve(AEConfig, "smoke")).view)
    part, held = hold_out(healthy, stack, np.random.default_rng(0))
    assert len(set(stack.case_of[held])) == 1
    assert not set(stack.case_of[held]) & set(stack.case_of[part])
    assert sorted([*part, *held]) == list(range(len(stack)))


def test_held_out_part_of_one_patient_is_its_last_fifth(toy_case):
    one = HealthySet.from_cases([toy_case(0, slices=10)[0]])
    stack = one.array(AE(resolve(AEConfig, "smoke")).view)
    part, held = hold_out(one, stack, np.random.default_rng(0))
    assert list(held) == [8, 9]
    assert list(part) == list(range(8))
    tiny = HealthySet.from_cases([toy_case(0, slices=1)[0]])
    with pytest.raises(TrainingError, match="two healthy slices"):
        hold_out(tiny, tiny.array(AE(resolve(AEConfig, "smoke")).view), np.random.default_rng(0))


def test_early_stopping_waits_for_its_patience_and_restores_the_best_weights():
    net = torch.nn.Linear(1, 1, bias=False)
    losses = iter([3.0, 1.0, 2.0, 2.0, 0.0])

    def step(i):
        torch.nn.init.constant_(net.weight, i)
        return {"l1": 1.0}

    context = FitContext(seed=0)
    done = train_until_no_gain(context, net, step, lambda: next(losses), per_epoch=3, updates=100, patience=2)
    assert done == 12
    assert net.weight.item() == 5


def test_baur_budget_trains_in_epochs(train, toy_case):
    settings_ = {"budget": "baur", "updates": "none", "batch": 8, "epochs": 2, "patience": 5}
    method, curve = train(AE, **settings_)
    assert [set(values) for values in curve] == [{"validation", "l1"}] * 2
    assert np.isfinite(method.score(toy_case(9)[0])).all()
