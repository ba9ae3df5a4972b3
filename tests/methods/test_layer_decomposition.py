"""Layer decomposition and its fine-tuned top line: network, losses, training, and the traps."""

import numpy as np
import pytest
import torch
from monai.losses.dice import DiceLoss
from torch import nn
from uasbench.common.errors import DataError
from uasbench.datasets.labelled import LabelledSet
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.losses import decomposition_losses, soft_dice_loss
from uasbench.methods.nets.unets import LayerUNet
from uasbench.methods.pseudo_anomaly.layer_decomposition import LayerDecomposition
from uasbench.methods.pseudo_anomaly.parts.layer_method import LayerConfig, organ_statistics, standardised
from uasbench.methods.supervised.layer_decomposition_finetuned import LayerDecompositionFinetuned, SparseMasks
from uasbench.methods.synthesis import layered_lesions

CICEK = 19_069_955  # printed by Çiçek et al. 2016 for three channels in and three classes out, without normalisation


def test_convolutions_are_those_of_the_3d_unet_paper():
    net = LayerUNet((64, 128, 256, 512), inputs=3)
    norms = sum(p.numel() for m in net.modules() if isinstance(m, nn.BatchNorm3d) for p in m.parameters())
    assert sum(p.numel() for p in net.parameters()) - norms == CICEK


def test_heads_have_the_shape_of_the_input_weights_of_their_own_and_statistics_of_the_batch_at_test_too():
    net = LayerUNet((4, 8, 16))
    outputs = net(torch.randn(2, 1, 8, 12, 16))
    assert [o.shape for o in outputs] == [(2, 1, 8, 12, 16)] * 3
    outputs[2].sum().backward()
    assert net.mask.weight.grad is not None
    assert net.normal.weight.grad is None
    assert net.lesion.weight.grad is None
    torch.manual_seed(0)
    net = LayerUNet((4, 8)).eval()
    x = torch.randn(2, 1, 4, 8, 8)
    x[1] *= 5
    assert not list(net.buffers()), "running statistics would be used at test"
    with torch.inference_mode():
        together, alone = net(x)[2][:1], net(x[:1])[2]
        trained = net.train()(x)[2][:1]
    assert not torch.allclose(together, alone)
    assert torch.equal(together, trained)


SMALL = {"spacing": (2.5, 3.0, 3.0), "size": 24, "volume": (100.0, 3000.0)}
PHASES = ("decomposition", "fine-tuning")


@pytest.fixture(scope="module")
def labelled(toy_case) -> LabelledSet:
    cases = []
    for i in range(4):
        case, lesion = toy_case(i, lesion=True, slices=16)
        lesion[:8] = False
        cases.append((case, lesion))
    return LabelledSet.from_cases(cases)


def volumes(labelled, view):
    return labelled.cases.volumes(view), [labelled.lesion_volume(i, view) for i in range(len(labelled))]


def test_grey_values_of_the_recipe_are_those_of_the_window():
    liver = LayerDecomposition(resolve(LayerConfig, "paper", "liver")).recipe()
    assert liver.zero == pytest.approx(200 / 450)
    assert liver.factors == ((0.4, 0.9), (1.1, 1.4))
    lung = LayerDecomposition(resolve(LayerConfig, "paper", "lung")).recipe()
    assert lung.zero == pytest.approx(-200 / 900)
    assert len(lung.factors) == 1


def test_losses_equal_monai_dice_and_plain_absolute_errors_and_are_finite_without_a_mask():
    rng = torch.Generator().manual_seed(0)
    shape = (2, 1, 4, 6, 6)
    outputs = tuple(torch.randn(shape, generator=rng) for _ in range(3))
    batch = {"normal": torch.randn(shape, generator=rng), "lesion": torch.randn(shape, generator=rng)}
    batch["mask"] = (torch.rand(shape, generator=rng) > 0.7).float()
    losses = decomposition_losses(outputs, batch)
    assert list(losses) == ["dice", "normal", "lesion", "normal inside", "lesion inside"]
    dice = DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5)(outputs[2], batch["mask"])
    assert float(losses["dice"]) == pytest.approx(float(dice), rel=1e-5)
    inside = batch["mask"].bool()
    for output, name in zip(outputs[:2], ("normal", "lesion"), strict=True):
        error = np.abs(output.numpy() - batch[name].numpy())
        assert float(losses[name]) == pytest.approx(error.mean(), rel=1e-5)
        assert float(losses[f"{name} inside"]) == pytest.approx(error[inside.numpy()].mean(), rel=1e-5)
    zero = torch.zeros(1, 1, 2, 4, 4)
    losses = decomposition_losses((zero, zero, zero), {"normal": zero, "lesion": zero, "mask": zero})
    assert all(bool(torch.isfinite(v)) for v in losses.values())
    assert float(soft_dice_loss(zero - 50, zero)) == pytest.approx(0, abs=1e-5)


def test_the_sum_of_the_losses_is_minimised(make_method, healthy_volumes):
    method = make_method(LayerDecomposition, "smoke", SMALL)
    stack = healthy_volumes.volumes(method.view)
    losses = method.layer_losses(method.next_layers(stack, FitContext(0), stack.runs, "x")())
    assert next(iter(losses)) == "loss"
    parts = [v.item() for k, v in losses.items() if k != "loss"]
    assert losses["loss"].item() == pytest.approx(sum(parts), rel=1e-6)
    losses["loss"].backward()
    assert all(p.grad is not None for p in method.net.parameters())


def test_organs_are_standardised_and_the_rest_is_zero():
    rng = np.random.default_rng(0)
    image, roi = rng.normal(0.4, 0.1, (6, 8, 8)).astype(np.float32), rng.random((6, 8, 8)) > 0.5
    out = standardised(image, roi, organ_statistics(image, roi))
    assert out[roi].mean() == pytest.approx(0, abs=1e-5)
    assert out[roi].std() == pytest.approx(1, abs=1e-4)
    assert not out[~roi].any()
    flat = np.full_like(image, 0.3)
    assert np.isfinite(standardised(flat, roi, organ_statistics(flat, roi))).all()
    assert organ_statistics(image, np.zeros_like(roi)) == (0, 1)


def test_batches_are_layers_of_one_scale(make_method, healthy_volumes):
    method = make_method(LayerDecomposition, "smoke", {**SMALL, "batch": 6})
    stack = healthy_volumes.volumes(method.view)
    batch = {k: v.numpy() for k, v in method.next_layers(stack, FitContext(2), stack.runs, "x")().items()}
    assert all(a.shape == (6, 1, 8, 16, 16) and a.dtype == np.float32 for a in batch.values())
    mask = batch["mask"] > 0
    assert mask.any(axis=(1, 2, 3, 4)).all()
    assert np.array_equal(batch["image"][~mask], batch["normal"][~mask])
    assert (batch["image"][mask] != batch["normal"][mask]).mean() > 0.9
    assert np.array_equal(batch["lesion"], batch["image"] * mask), "the target of the lesion is the mixture"


def test_textures_come_from_another_scan(make_method, healthy_volumes, monkeypatch):
    pairs: list[tuple[float, float]] = []
    draw = layered_lesions.LayerGenerator.__call__
    monkeypatch.setattr(
        layered_lesions.LayerGenerator,
        "__call__",
        lambda self, roi, origin, of, other: pairs.append((of.mean, other.mean)) or draw(self, roi, origin, of, other),
    )
    method = make_method(LayerDecomposition, "smoke", {**SMALL, "batch": 30})
    stack = healthy_volumes.volumes(method.view)
    method.next_layers(stack, FitContext(2), stack.runs, "x")()
    assert len(set(pairs)) == 6, "every ordered pair of three scans"
    assert all(a != b for a, b in pairs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_ends_when_the_mean_loss_of_an_epoch_stops_falling(train, healthy_volumes, precision):
    settings = {**SMALL, "updates": None, "lr": 0.0, "epochs": 50, "epoch_updates": 2, "patience": 2}
    method, curve = train(LayerDecomposition, healthy_volumes, precision=precision, **settings)
    means = [v["decomposition/epoch"] for v in curve]
    assert method.updates["decomposition"] == 2 * len(means)
    best = int(np.argmin(means))
    assert len(means) in (best + 3, 50)


def test_the_rate_falls_on_a_plateau_of_ten_epochs(train, healthy_volumes, monkeypatch):
    seen, original = {}, torch.optim.lr_scheduler.ReduceLROnPlateau
    monkeypatch.setattr(
        torch.optim.lr_scheduler, "ReduceLROnPlateau", lambda o, **values: seen.update(values) or original(o, **values)
    )
    train(LayerDecomposition, healthy_volumes, **SMALL, updates=None, epochs=1, epoch_updates=1)
    assert seen == {"factor": 0.1, "patience": 10}


def test_no_updates_leave_the_method_untrained_where_it_trains_in_epochs_too(train, healthy_volumes, toy_case):
    method, _ = train(LayerDecomposition, healthy_volumes, limit=0, **SMALL, updates=None)
    assert method.updates == {"decomposition": 0}
    assert np.isfinite(method.score(toy_case(9, slices=12)[0])).all()


def test_preview_shows_the_layers(make_method, healthy_volumes):
    shown = make_method(LayerDecomposition, "smoke", SMALL).preview(healthy_volumes, FitContext(seed=0))
    assert list(shown) == ["healthy", "with synthetic lesions", "lesion layer", "target"]
    assert all(p.shape == (2, 16, 16) and p.min() >= 0 and p.max() <= 1 for p in shown.values())


def test_sparse_masks_give_back_the_masks():
    masks = [np.random.default_rng(i).random((3, 4, 5)) > 0.8 for i in range(3)]
    kept = SparseMasks(iter(masks))
    assert len(kept) == 3
    assert all(np.array_equal(a, b) for a, b in zip(kept, masks, strict=True))


def test_the_first_phase_sees_no_slice_with_a_lesion(make_method, labelled):
    method = make_method(LayerDecompositionFinetuned, "smoke", SMALL)
    stack, lesions = volumes(labelled, method.view)
    runs = method.healthy_runs(stack, lesions)
    assert {run.case for run in runs} == {0, 1, 2, 3}
    assert not any(lesions[run.case][run.start : run.stop].any() for run in runs)
    with pytest.raises(DataError, match="every slice"):
        method.healthy_runs(stack, [np.ones_like(lesion) for lesion in lesions])


def test_labels_train_the_network_or_its_mask_alone(make_method, labelled):
    def weights(limit: int | None, tuned: str) -> dict[str, torch.Tensor]:
        method = make_method(LayerDecompositionFinetuned, "smoke", {**SMALL, "tuned": tuned, "tuning_updates": 2})
        stack, lesions = volumes(labelled, method.view)
        method.tune(stack, lesions, list(labelled.patients), FitContext(seed=0, max_updates=limit))
        return {k: v.clone() for k, v in method.net.state_dict().items()}

    before = weights(0, "head")
    for tuned, changed_names in (("head", {"mask.weight", "mask.bias"}), ("network", None)):
        after = weights(None, tuned)
        changed = {k for k in before if not torch.equal(before[k], after[k])}
        assert changed == changed_names or (changed_names is None and len(changed) > 4)


@pytest.mark.parametrize(("given", "done"), [(None, 2), (1, 1), (0, 0)])
def test_the_top_line_trains_in_two_phases(make_method, labelled, given, done):
    logs: list[str] = []
    method = make_method(LayerDecompositionFinetuned, "smoke", {**SMALL, "updates": 2, "tuning_updates": given})
    method.fit(labelled, FitContext(seed=0, on_log=lambda _, v: logs.extend(v)))
    assert method.updates == {"decomposition": 2, "fine-tuning": done}
    assert "decomposition/loss" in logs
    assert ("fine-tuning/dice" in logs) == (done > 0)


def test_the_top_line_stops_early_in_both_phases(make_method, labelled):
    names: set[str] = set()
    method = make_method(
        LayerDecompositionFinetuned, "smoke", {**SMALL, "updates": None, "epochs": 2, "epoch_updates": 2}
    )
    method.fit(labelled, FitContext(seed=0, on_log=lambda _, v: names.update(v)))
    assert set(method.updates) == set(PHASES)
    assert all(0 < n <= 4 for n in method.updates.values())
    assert {"decomposition/epoch", "fine-tuning/validation"} <= names
    assert "decomposition/validation" not in names, "synthetic lesions need no held-out patients"


def test_labelled_batches_show_the_lesions_inside_the_organ(make_method, labelled):
    method = make_method(LayerDecompositionFinetuned, "smoke", {**SMALL, "positive": 1.0, "batch": 8})
    stack, lesions = volumes(labelled, method.view)
    batch = method.next_labelled(stack, lesions, FitContext(0), stack.runs, "x")()
    mask = batch["mask"].bool()
    assert mask.flatten(1).any(dim=1).all()
    assert batch["image"][mask].mean() < -0.5, "lesions of the toy livers are dark"
