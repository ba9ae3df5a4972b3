"""DRAEM and the liver paper's two-stage method: losses, phases, schedules, the rows of Table 2 and known traps."""

import itertools

import numpy as np
import pytest
import torch
from uasbench.benchmark.experiments import load
from uasbench.methods.config import by_stage, resolve
from uasbench.methods.context import FitContext
from uasbench.methods.losses import focal_loss, ssim_loss
from uasbench.methods.nets.unets import RestorationAE, WeightStandardisedUNet
from uasbench.methods.pseudo_anomaly.draem import DRAEM
from uasbench.methods.pseudo_anomaly.two_stage import TwoStage, TwoStageConfig
from uasbench.methods.synthesis.shift import ShiftedRegions
from uasbench.methods.synthesis.textures import BlendedTextures

TABLE2 = {
    "baseline": (False, "perlin", "ae"),
    "tp": (True, "perlin", "ae"),
    "tp-pa": (True, "stretched", "ae"),
    "pa-unet": (False, "stretched", "unet"),
    "tp-pa-unet": (True, "stretched", "unet"),
}
NOT_OF_THE_PAPER = {"baseline-script": (False, "perlin", "ae"), "draem-seed1-bug": (False, "stretched", "ae")}


def state(net):
    return {k: v.detach().clone() for k, v in net.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def batches_of(method):
    """Collect what a method draws for its training."""
    original, drawn = method.batch_source, []

    def spy(*args, **kwargs):
        draw = original(*args, **kwargs)
        return lambda: drawn.append(draw()) or drawn[-1]

    method.batch_source = spy
    return drawn


def test_epochs_become_updates(make_method, healthy, monkeypatch):
    method = make_method(TwoStage, "smoke", {"restoration_updates": None, "segmentation_updates": None, "batch": 5})
    wanted = []
    monkeypatch.setattr(method, "train_restoration", lambda stack, ctx, n: wanted.append(n))
    monkeypatch.setattr(method, "train_segmentation", lambda stack, ctx, n: wanted.append(n))
    method.fit(healthy, FitContext(seed=0))
    assert wanted == [201 * 5, 5]  # 24 slices in batches of 5


def test_faithful_preprocessing_is_a_view():
    fixed, faithful = (
        TwoStage(resolve(TwoStageConfig, "paper", "liver", {"preprocessing": p})).view for p in ("fixed", "faithful")
    )
    assert (fixed.grey, fixed.window, fixed.resize) == ("linear", (-200, 250), "linear")
    assert (faithful.grey, faithful.window, faithful.resize) == ("slice", (-200, 250), "cubic")
    for view in (fixed, faithful):
        assert (view.size, view.equalise, view.mask_roi, view.dtype) == (256, True, True, "uint8")


@pytest.mark.parametrize("row", TABLE2)
def test_every_row_of_table_2_is_a_configuration(train, healthy, row):
    two_phase, anomaly, restoration = TABLE2[row]
    method, curve = train(TwoStage, two_phase=two_phase, anomaly=anomaly, restoration=restoration, rejection=True)
    kinds = {"stretched": ShiftedRegions, "perlin": BlendedTextures}
    nets = {"unet": WeightStandardisedUNet, "ae": RestorationAE}
    stack = healthy.array(method.view)
    assert isinstance(method.synthesis(stack, FitContext(seed=0), "x"), kinds[anomaly])
    assert isinstance(method.restoration, nets[restoration])
    assert method.updates == ({"restoration": 4, "segmentation": 4} if two_phase else {"joint": 5})
    names = {name for values in curve for name in values}
    assert names == ({"restoration/l1", "segmentation/focal"} if two_phase else {"l2", "ssim", "focal"})


def shipped(label):
    return next(v.settings for v in load("liver/table2").variants if v.label == label)


def test_table_2_is_shipped_as_one_experiment_in_which_the_rows_of_the_paper_differ_by_its_switches_and_draems_turns():
    plan = load("liver/table2")
    rows = {v.label: (v.settings["two_phase"], v.settings["anomaly"], v.settings["restoration"]) for v in plan.variants}
    assert rows == {**TABLE2, **NOT_OF_THE_PAPER}
    assert {v.method for v in plan.variants} == {"two-stage"}
    assert (plan.dataset, plan.train, plan.seeds, plan.calibration) == ("lits", "btcv", 3, "none")
    assert [p.value for p in plan.printed()] == [14.75, 21.31, 30.17, 40.06, 53.03]
    paper = vars(resolve(TwoStageConfig, "paper", "liver"))
    switches = ("two_phase", "anomaly", "restoration")
    others = {}
    for variant in plan.variants:
        ours = vars(resolve(TwoStageConfig, "paper", "liver", variant.settings))
        others[variant.label] = {k: v for k, v in ours.items() if v != paper[k] and k not in switches}
    turned = {"rotate_p": 0.3}
    script = {"focal_on_empty": False, "joint_epochs": 90, "lr_decay": 0.1, "lr_decay_at": (0.3333, 0.6667)}
    assert {k: v for k, v in others.items() if v} == {
        "baseline": turned,
        "pa-unet": turned,
        "baseline-script": script,
        "draem-seed1-bug": {"focal_on_empty": False, "frozen_restoration": True},
    }


def test_the_faulty_row_trains_the_segmentation_alone_where_there_is_an_anomaly(make_method, healthy):
    def weights(net):
        return {name: value.detach().clone() for name, value in net.named_parameters()}

    settings = {**shipped("draem-seed1-bug"), "p_anomaly": 0.3, "batch": 2, "rejection": True}
    method, focal = make_method(TwoStage, "smoke", settings), []
    before, segmented = state(method.restoration), [weights(method.segmentation)]
    frozen = weights(method.restoration)

    def log(_, values):
        focal.append("focal" in values)
        segmented.append(weights(method.segmentation))

    method.fit(healthy, FitContext(seed=0, on_log=log))
    assert same(frozen, weights(method.restoration))
    assert not same(before, method.restoration.state_dict()), "its statistics are those of training mode"
    assert [not same(*pair) for pair in itertools.pairwise(segmented)] == focal
    assert set(focal) == {False, True}


def test_baseline_row_is_draem_itself(train, toy_case):
    """One code for both: from the same first weights the shipped row and the draem method give the same map."""
    baseline, _ = train(TwoStage, **shipped("baseline"))
    draem, _ = train(DRAEM, texture_source="perlin", init="torch")
    case, _ = toy_case(9, lesion=True)
    assert np.array_equal(baseline.score(case), draem.score(case))


def test_restoration_learns_the_clean_slice(make_method, toy_net, healthy):
    """With an identity net, phase one costs mean |shift| times area, and its target is not its own input."""
    method = make_method(TwoStage, "smoke", {"rejection": True, "restoration_updates": 1})
    method.restoration = toy_net(times, 1.0)
    logged, drawn = [], batches_of(method)
    stack = healthy.array(method.view)
    method.train_restoration(stack, FitContext(seed=0, on_log=lambda _, v: logged.append(v["restoration/l1"])), 1)
    clean, augmented, masks = drawn[0]
    change = (augmented - clean).abs()[masks[:, None]]
    assert logged[0] > 0
    assert logged[0] == pytest.approx(float(change.sum() / clean.numel()), rel=1e-5)
    gradient = method.restoration.weight.grad
    assert gradient.item() == pytest.approx(float(((augmented - clean).sign() * augmented).mean()), rel=1e-4)


def times(x, factors):
    return x * factors.view(-1, 1, 1)


def test_segmentation_loss_is_the_focal_loss_of_restoration_and_slice(make_method, toy_net, healthy):
    method, logged = make_method(TwoStage, "smoke", {"rejection": True}), []
    method.restoration, method.segmentation = toy_net(times, 0.7), toy_net(times, (1.5, -2.0))
    stack = healthy.array(method.view)
    _clean, augmented, masks = method.batch_source(stack, FitContext(seed=0), "segmentation")()
    context = FitContext(seed=0, max_updates=1, on_log=lambda _, v: logged.append(v["segmentation/focal"]))
    method.train_segmentation(stack, context, 1)
    logits = torch.cat([1.5 * 0.7 * augmented, -2 * augmented], dim=1)
    assert masks.any()
    assert logged == pytest.approx([focal_loss(logits, masks, gamma=2, smooth=1e-5).item()], rel=1e-5)
    assert method.restoration.weight.grad is None


@pytest.mark.parametrize("restoration", ["unet", "ae"])
def test_phase_two_changes_neither_weights_nor_statistics_of_the_restoration(make_method, healthy, restoration):
    method = make_method(TwoStage, "smoke", {"restoration": restoration, "rejection": True})
    stack, ctx = healthy.array(method.view), FitContext(seed=0)
    method.train_restoration(stack, ctx, 3)
    restored, segmented = state(method.restoration), state(method.segmentation)
    method.train_segmentation(stack, ctx, 3)
    assert same(restored, method.restoration.state_dict())
    assert not same(segmented, method.segmentation.state_dict())
    if restoration == "unet":
        assert not list(method.restoration.buffers())


def test_map_is_the_softmax_of_the_anomalous_class(make_method):
    method = make_method(TwoStage)
    array = np.random.default_rng(0).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    map_ = method.score_view(array, array > 0, (1, 1, 1))
    with torch.no_grad():
        image = torch.from_numpy(array).float()[:, None] / 255
        logits = method.segmentation(torch.cat([method.restoration(image), image], 1))
    assert np.allclose(map_, torch.softmax(logits, 1)[:, 1].numpy(), atol=1e-6)


def test_checkpoints_are_named_by_epochs_and_that_of_the_first_is_the_training_of_one(make_method, healthy):
    def fit(**settings):
        kept = {}
        method = make_method(TwoStage, "smoke", {"rejection": True, "segmentation_updates": None, **settings})
        method.fit(healthy, FitContext(0, save_checkpoint=lambda name: kept.update({name: state(method.segmentation)})))
        return kept, method.segmentation.state_dict()

    kept, last = fit(segmentation_epochs=3, segmentation_checkpoints=(1, 2))
    _, one = fit(segmentation_epochs=1)
    assert list(kept) == ["epoch-1", "epoch-2"]
    assert same(kept["epoch-1"], one)
    assert not same(kept["epoch-2"], last)


def test_the_rows_of_figure_3_are_the_checkpoints_of_one_training_that_begins_as_the_methods_own():
    rows = [resolve(TwoStageConfig, "paper", "liver", v.settings) for v in load("liver/fig3").variants]
    assert all(by_stage(row)[0] == by_stage(rows[0])[0] for row in rows)
    assert [row.checkpoint for row in rows] == [f"epoch-{n}" for n in rows[0].segmentation_checkpoints]
    assert rows[0].segmentation_checkpoints == tuple(range(1, rows[0].segmentation_epochs, 5))
    changed = {"segmentation_epochs", "segmentation_checkpoints", "checkpoint"}
    paper = vars(resolve(TwoStageConfig, "paper", "liver"))
    assert {k for k, v in vars(rows[0]).items() if v != paper[k]} == changed
    small = load("liver/fig3").variants[0].settings
    assert resolve(TwoStageConfig, "smoke", "liver", small).segmentation_updates is None, "epochs exist at any profile"


def test_first_weights_follow_their_setting_and_those_of_the_restoration_only_between_torch_and_normal(make_method):
    def spreads(net):
        return [(m.weight.std().item(), 9 * m.in_channels) for m in net.modules() if isinstance(m, torch.nn.Conv2d)]

    narrow = {"ae_base": 8, "seg_base": 16}
    plain, normal, he = (make_method(DRAEM, "paper", {"init": i, **narrow}) for i in ("torch", "normal", "he"))
    default = make_method(TwoStage, "paper", {"restoration": "ae", **narrow})
    assert [s for s, _ in spreads(normal.segmentation)] == pytest.approx([0.02 * 4**0.5] * 28, rel=0.2)
    for method, variance in ((he, 2), (plain, 1 / 3)):  # PyTorch draws uniformly within the root of 1 / inputs
        assert [s for s, _ in spreads(method.segmentation)] == pytest.approx(
            [(variance / inputs) ** 0.5 for _, inputs in spreads(method.segmentation)], rel=0.2
        )
    assert same(state(normal.restoration), he.restoration.state_dict())
    restored = [s for s, _ in spreads(normal.restoration)]
    assert restored == pytest.approx([0.02 * 16**0.5] * len(restored), rel=0.25)
    assert same(state(plain.restoration), default.restoration.state_dict())
    assert same(state(plain.segmentation), default.segmentation.state_dict())


def test_rates_of_draem_fall_at_80_and_90_per_cent_and_those_of_two_phases_stay(train, rates):
    train(DRAEM, updates=10, lr=1.0)
    train(TwoStage, segmentation_updates=8)
    assert rates == pytest.approx([1.0] * 8 + [0.2] * 1 + [0.04] * 1 + [1e-4] * 12)


def test_joint_loss_is_squared_error_and_similarity_to_the_clean_slice_and_focal_loss(
    make_method, toy_net, healthy, monkeypatch
):
    method, totals, logged = make_method(DRAEM, "smoke", {"p_none": 0.0, "perlin_threshold": 0.2}), [], []
    method.restoration, method.segmentation = toy_net(times, 0.7), toy_net(times, (1.5, -2.0))
    drawn = batches_of(method)
    backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: totals.append(loss.item()) or backward(loss))
    method.fit(healthy, FitContext(seed=0, max_updates=1, on_log=lambda _, v: logged.append(v)))
    clean, augmented, masks = drawn[0]
    assert masks.any()
    assert not torch.equal(clean, augmented)
    restored = 0.7 * augmented
    expected = {
        "l2": ((restored - clean) ** 2).mean(),
        "ssim": ssim_loss(restored, clean, window=11, sigma=1.5),
        "focal": focal_loss(torch.cat([1.5 * restored, -2 * augmented], dim=1), masks, gamma=2, smooth=1e-5),
    }
    assert logged[0] == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-5)
    assert totals[0] == pytest.approx(sum(expected.values()).item(), rel=1e-5)


def test_rotated_slices_keep_background_dark_and_masks_inside(make_method, healthy):
    method = make_method(DRAEM, "smoke", {"size": 64})
    clean, augmented, masks = method.batch_source(healthy.array(method.view), FitContext(seed=0), "joint", 1.0)()
    outside = ~masks[:, None]
    assert torch.equal(clean[outside], augmented[outside])
    assert clean[:, :, 0, 0].max() < 0.2
    assert (clean > 0).float().mean() > 0.1
