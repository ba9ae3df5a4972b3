"""SyntheticTumours: published settings, crops, augmentation, schedule, and the traps of its paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses.dice import DiceCELoss
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.volume_stack import Run
from uasbench.methods.config import ConfigError, resolve
from uasbench.methods.context import FitContext
from uasbench.methods.early_stopping import held_out_patients
from uasbench.methods.pseudo_anomaly.parts.volume_crops import VolumeCrops, held_out_runs, slide
from uasbench.methods.pseudo_anomaly.synthetic_tumours import SyntheticTumours, SyntheticTumoursConfig, warm_cosine

SMALL = {"spacing": (2.5, 3.0, 3.0), "size": 24}


@pytest.fixture(scope="module")
def healthy(toy_case) -> HealthySet:
    return HealthySet.from_cases([toy_case(i, slices=12)[0] for i in range(3)])


def test_optimiser_schedule_and_loss_are_the_published_ones(make_method, healthy, monkeypatch):
    seen: dict = {}
    original, steps = torch.optim.AdamW, []

    def spy(parameters, **values):
        seen.update(values)
        optimiser = original(parameters, **values)
        optimiser.register_step_pre_hook(lambda o, *_: steps.append(o.param_groups[0]["lr"]))
        return optimiser

    monkeypatch.setattr(torch.optim, "AdamW", spy)
    losses = []
    method = make_method(SyntheticTumours, "smoke", {**SMALL, "lr": 4e-4, "updates": 4, "warmup": 2000})
    method.fit(healthy, FitContext(seed=0, on_log=lambda _, v: losses.append(v["dice + ce"])))
    assert seen == {"lr": 4e-4, "weight_decay": 1e-5}
    assert steps == pytest.approx([2e-4, 4e-4, 4e-4, 2e-4])
    fresh = make_method(SyntheticTumours, "smoke", SMALL)
    _, images, masks = fresh.batch_source(VolumeCrops(healthy.volumes(fresh.view), fresh.config.crop), FitContext(0))()
    reference = DiceCELoss(to_onehot_y=True, softmax=True)(
        fresh.net(torch.from_numpy(images)[:, None]), torch.from_numpy(masks)[:, None]
    )
    assert losses[0] == pytest.approx(reference.item(), rel=1e-5)


def test_the_paper_warms_up_for_a_fortieth_of_the_epochs():
    updates = 4000 * 12
    factors = [warm_cosine(i, updates, 100 / 4000) for i in range(updates + 1)]
    assert factors[0] == pytest.approx(1 / 1200)
    assert factors[1199] == factors[1200] == 1
    assert factors[1200 + (updates - 1200) // 2] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(factors[:1200]) > 0).all()
    assert (np.diff(factors[1200:]) <= 0).all()


@pytest.mark.parametrize(("anatomy", "sign"), [("liver", -1), ("lung", 1)])
def test_batches_show_tumours_of_the_right_sign_inside_the_organ(make_method, healthy, anatomy, sign):
    values = {**SMALL, "flip": 0.0, "rotate": 0.0, "intensity_p": 0.0, "window": (-200.0, 250.0), "batch": 8}
    method = make_method(SyntheticTumours, "smoke", values, anatomy)
    clean, images, masks = method.batch_source(
        VolumeCrops(healthy.volumes(method.view), method.config.crop), FitContext(seed=1)
    )()
    assert clean.shape == images.shape == masks.shape == (8, 8, 16, 16)
    assert (images.dtype, masks.dtype) == (np.float32, bool)
    assert ((images - clean) * sign >= 0).all()
    assert (images[masks] != clean[masks]).mean() > 0.9
    assert 0 < masks.mean() < 0.9
    assert not masks[clean == 0].any(), "a tumour outside the organ"


def test_flips_and_turns_keep_image_and_mask_together(make_method):
    method = make_method(SyntheticTumours, "smoke", {**SMALL, "flip": 0.5, "rotate": 0.5, "intensity_p": 0.0})
    rng = np.random.default_rng(0)
    image = rng.random((4, 6, 6)).astype(np.float32)
    mask = image > 0.7
    moved = 0
    for _ in range(30):
        changed, where = method._change(image, np.ones_like(mask), mask, rng)
        assert np.array_equal(changed > 0.7, where)
        assert np.array_equal(np.sort(changed.ravel()), np.sort(image.ravel()))
        moved += not np.array_equal(changed, image)
    assert moved > 20


def test_grey_values_change_inside_the_organ_by_a_tenth_at_most(make_method):
    method = make_method(SyntheticTumours, "smoke", {**SMALL, "flip": 0.0, "rotate": 0.0, "intensity_p": 1.0})
    image, roi = np.full((4, 6, 6), 0.5, np.float32), np.zeros((4, 6, 6), bool)
    roi[:, :3] = True
    for seed in range(20):
        changed, _ = method._change(image, roi, roi, np.random.default_rng(seed))
        assert np.array_equal(changed[~roi], image[~roi])
        assert 0.5 * 0.9 - 0.1 <= changed[roi].min() <= changed[roi].max() <= 0.5 * 1.1 + 0.1


def test_crops_never_bridge_a_slice_that_was_taken_out(toy_case, make_method):
    case, _ = toy_case(0, slices=16)
    roi = case.roi.copy()
    roi[9:11] = False
    view = make_method(SyntheticTumours, "smoke", SMALL).view
    stack = HealthySet.from_cases([Case("c", "p", case.image, case.spacing, roi)]).volumes(view)
    crops = VolumeCrops(stack, (6, 8, 8))
    assert [(r.start, r.stop) for r in crops.runs] == [(0, 9), (11, 16)]
    rng = np.random.default_rng(0)
    for _ in range(30):
        run = crops.run_of(0, rng)
        centre = np.array([rng.integers(run.start, run.stop), rng.integers(24), rng.integers(24)])
        crop = crops.around(run, centre)
        stop = min(crop.origin[0] + 6, run.stop)
        assert run.start <= crop.origin[0]
        assert crop.image.shape == crop.roi.shape == (6, 8, 8)
        assert not crop.roi[stop - crop.origin[0] :].any()
        assert not crop.image[~crop.roi].any()
        full = np.zeros((6, 8, 8), bool)
        part = tuple(slice(a, a + n) for a, n in zip(crop.origin, (stop - crop.origin[0], 8, 8), strict=True))
        full[: stop - crop.origin[0]] = stack.roi(0)[part]
        assert np.array_equal(crop.roi, full)


def test_held_out_runs_share_no_patient_with_the_others():
    runs = [Run(case, 0, 10) for case in range(10)]
    patients = [f"p{case // 2}" for case in range(10)]
    rest, held = held_out_runs(patients, runs, np.random.default_rng(0))
    assert len(rest) + len(held) == 10
    assert held
    assert not {patients[r.case] for r in rest} & {patients[r.case] for r in held}
    rest, held = held_out_runs(["p"], [Run(0, 5, 15)], np.random.default_rng(0))
    assert (rest, held) == ([Run(0, 5, 13)], [Run(0, 13, 15)])
    rest, held = held_out_runs(["p", "p"], [Run(0, 0, 4), Run(1, 0, 4)], np.random.default_rng(0))
    assert (rest, held) == ([Run(0, 0, 4)], [Run(1, 0, 4)])


@pytest.mark.parametrize(("patients", "wanted"), [(1, 0), (2, 1), (7, 1), (8, 2), (20, 4)])
def test_a_fifth_of_the_patients_validates(patients, wanted):
    names = [f"p{i}" for i in range(patients)]
    held = held_out_patients(names * 2, np.random.default_rng(0))
    assert len(set(held)) == len(held) == wanted
    assert set(held) <= set(names)
    assert held == held_out_patients(reversed(names), np.random.default_rng(0))


def test_windows_cover_the_organ_and_leave_the_rest_at_zero():
    roi = np.zeros((9, 20, 20), bool)
    roi[2:7, 3:15, 4:16] = True
    volume = np.random.default_rng(0).random(roi.shape).astype(np.float32)
    map_ = slide(lambda x: x * 2, volume, roi, (4, 8, 8), overlap=0.5, device="cpu")
    assert np.allclose(map_[roi], 2 * volume[roi], atol=1e-5)
    assert not map_[~roi].any()
    assert not slide(lambda x: x, volume, np.zeros_like(roi), (4, 8, 8), overlap=0.5, device="cpu").any()


def test_turned_crops_must_be_square():
    with pytest.raises(ConfigError, match="crop"):
        resolve(SyntheticTumoursConfig, "paper", "liver", {"crop": (96, 96, 64)})


def test_preview_shows_healthy_crops_and_tumours(make_method, healthy):
    shown = make_method(SyntheticTumours, "smoke", SMALL).preview(healthy, FitContext(seed=0))
    assert list(shown) == ["healthy", "with synthetic tumours", "target"]
    assert all(p.shape == (2, 16, 16) for p in shown.values())
