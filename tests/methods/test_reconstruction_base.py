"""What every method on the trunk inherits: budgets, losses, reproducible draws, early stopping, residual and map."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.slice_view import View
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.card import MethodCard
from uasbench.methods.config import ConfigError, resolve
from uasbench.methods.context import FitContext, LoopOverError, TrainingError
from uasbench.methods.early_stopping import hold_out, train_until_no_gain
from uasbench.methods.reconstruction.ae import AE
from uasbench.methods.reconstruction.constrained_vae import ConstrainedVAE
from uasbench.methods.reconstruction.context_vae import ContextVAE
from uasbench.methods.reconstruction.gmvae import GMVAE
from uasbench.methods.reconstruction.kl_grad import KLGrad
from uasbench.methods.reconstruction.parts.base import ReconstructionConfig, ReconstructionMethod
from uasbench.methods.reconstruction.parts.residual import filtered_inside
from uasbench.methods.reconstruction.vae import VAE, VAEOriginal, VAESpatial
from uasbench.methods.reconstruction.vae_restoration import VAERestoration
from uasbench.methods.training import run_updates

TRUNK = (AE, VAE, VAESpatial, VAEOriginal, ContextVAE, ConstrainedVAE, GMVAE, KLGrad, VAERestoration)
VIEW = resolve(ReconstructionConfig, "smoke").view


class Offset(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.value


class Probe(ReconstructionMethod):
    """Adds a number to the slice; its loss pulls that number to 1, its second entry to −1."""

    card = MethodCard(name="probe", title="Probe")

    def make_net(self):
        self.seen = []
        return Offset()

    def losses(self, x, roi, draws):
        assert x.shape == roi.shape
        assert (x.dtype, roi.dtype) == (torch.float32, torch.bool)
        self.seen.append((self.net.training, float(torch.rand((), generator=draws))))
        return {"loss": (self.net.value - 1).square().sum(), "against": (self.net.value + 1).square().sum()}


def test_the_first_loss_is_minimised_and_all_are_logged(make_method, healthy):
    method, curve = make_method(Probe), []
    method.fit(healthy, FitContext(seed=0, on_log=lambda step, values: curve.append(values)))
    assert method.net.value.item() > 0
    assert [list(values) for values in curve] == [["loss", "against"]] * 10
    assert all(training for training, _ in method.seen)


def test_validation_uses_the_same_draws_every_time_and_evaluation_mode(make_method, healthy):
    method = make_method(Probe, "smoke", {"budget": "baur", "updates": "none", "epochs": 3, "lr": "0.01"})
    logged = []
    method.fit(healthy, FitContext(seed=0, on_log=lambda _, values: logged.append(list(values))))
    assert logged == [["validation", "loss", "against"]] * 3
    checks = [value for training, value in method.seen if not training]
    assert len(checks) == 3
    assert len(set(checks)) == 1
    assert not {value for training, value in method.seen if training} & set(checks)


def test_early_stopping_is_watched_before_training_and_after_each_epoch_and_ends_as_unwatched(make_method, healthy):
    states, logged = [], []
    for held_out in (None, healthy):
        method = make_method(AE, "smoke", {"budget": "baur", "updates": "none", "epochs": 3, "lr": "0.01"})
        keep = lambda step, values: logged.append((step, *values))  # noqa: E731
        method.fit(healthy, FitContext(seed=0, on_log=keep, held_out=held_out))
        states.append(method.net.state_dict())
    steps = [step for step, *names in logged if names == ["held_out"]]
    assert (len(steps), steps[0]) == (4, 0)
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_method_without_its_parts_says_so():
    bare = ReconstructionMethod()
    with pytest.raises(TypeError, match="make_net"):
        bare.build()
    with pytest.raises(TypeError, match="losses"):
        bare.losses(torch.zeros(1), torch.zeros(1), torch.Generator())


@pytest.mark.parametrize("cls", TRUNK)
def test_the_other_budget_is_that_of_the_trunk_unless_told_otherwise(cls):
    for anatomy in ("liver", "lung"):
        baur = resolve(cls.Config, "paper", anatomy, {"budget": "baur"})
        assert (baur.lr, baur.beta1, baur.batch) == (5e-5 if cls is GMVAE else 1e-4, 0.5, 8)
        assert (baur.updates, baur.epochs, baur.patience) == (None, 1000, 5)
        told = resolve(cls.Config, "paper", anatomy, {"budget": "baur", "lr": "5e-4", "patience": "2"})
        assert (told.lr, told.beta1, told.patience) == (5e-4, 0.5, 2)


def test_loss_is_the_mean_absolute_error_per_pixel(make_method, toy_net):
    method = make_method(AE)
    method.net = toy_net(lambda x, _: torch.full_like(x, 0.5))
    x = torch.rand((4, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    losses = method.losses(x, torch.ones_like(x, dtype=torch.bool), torch.Generator())
    assert list(losses) == ["l1"]
    assert losses["l1"].item() == pytest.approx((x - 0.5).abs().mean().item())


def test_sign_erosion_and_median_act_on_the_map(make_method, toy_net):
    array, roi = np.full((5, 32, 32), 0.5, np.float32), np.zeros((5, 32, 32), bool)
    roi[:, 4:28, 4:28] = True
    array[:, 4:8, 4:28] = 0.9
    array[2, 20, 20], array[2, 1, 1] = 0.1, 0.9
    edge, inner, spot, outside = (2, 4, 15), (2, 7, 15), (2, 20, 20), (2, 1, 1)
    expected = {
        ("sign", "absolute"): (0.4, 0.4, 0.4, 0),
        ("sign", "positive"): (0.4, 0.4, 0, 0),
        ("sign", "negative"): (0, 0, 0.4, 0),
        ("erode", 3): (0, 0.4, 0.4, 0),
        ("median", 5): (0.4, 0.4, 0, 0),
    }
    for (name, value), wanted in expected.items():
        method = make_method(AE, "smoke", {name: value})
        method.net = toy_net(lambda x, _: torch.full_like(x, 0.5))
        scores = method.score_view(array, roi, (1.0, 1.0, 1.0))
        found = [scores[at].item() for at in (edge, inner, spot, outside)]
        assert found == pytest.approx(wanted, abs=1e-6), (name, value)


maps_3d = hnp.arrays(np.float32, (3, 7, 7), elements=st.floats(0, 1, width=32))


@given(map_=maps_3d, roi=hnp.arrays(bool, (3, 7, 7)), erode=st.integers(0, 2))
def test_filters_act_inside_the_organ_with_the_neighbours_of_the_volume(map_, roi, erode):
    plain = filtered_inside(map_, roi, 0, 0)
    assert np.array_equal(plain, map_ * roi)
    kept = filtered_inside(map_, roi, 0, erode)
    assert np.array_equal(kept[kept > 0], plain[kept > 0])
    assert filtered_inside(map_, roi, 3, 0)[1, 3, 3] == np.median(plain[:, 2:5, 2:5]) * roi[1, 3, 3]


def test_held_out_part_is_split_by_patient_or_the_last_fifth_of_the_only_one(healthy, toy_case):
    stack = healthy.array(VIEW)
    part, held = hold_out(healthy, stack, np.random.default_rng(0))
    assert len(set(stack.case_of[held])) == 1
    assert not set(stack.case_of[held]) & set(stack.case_of[part])
    assert sorted([*part, *held]) == list(range(len(stack)))
    one = HealthySet.from_cases([toy_case(0, slices=10)[0]])
    stack = one.array(VIEW)
    part, held = hold_out(one, stack, np.random.default_rng(0))
    assert (list(part), list(held)) == (list(range(8)), [8, 9])
    tiny = HealthySet.from_cases([toy_case(0, slices=1)[0]])
    with pytest.raises(TrainingError, match="two healthy slices"):
        hold_out(tiny, tiny.array(VIEW), np.random.default_rng(0))


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


def test_a_loop_whose_progress_says_so_is_over_and_what_follows_it_runs():
    def enough(done: int, total: int) -> None:
        if done == 4:
            raise LoopOverError

    steps, points = [], []
    context = FitContext(seed=0, on_progress=enough, on_log=lambda i, values: points.append((i, *values)))
    assert run_updates(context, 9, lambda i: steps.append(i) or {}) == 4 == len(steps)
    net, points[:] = torch.nn.Linear(1, 1), []
    step = {"per_epoch": 3, "updates": 9, "patience": 9}
    assert train_until_no_gain(context, net, lambda i: {"l1": 1.0}, lambda: 1.0, **step) == 4
    assert points == [(3, "validation", "l1"), (4, "validation", "l1")]


def test_lungs_look_the_same_wherever_they_lie_in_the_scan_and_whatever_its_voxels():
    """Yao et al. 2021, §IV-B: one voxel size for all scans and the lungs in the middle; livers stay where they are."""
    config = resolve(ReconstructionConfig, "paper", "lung")
    assert (config.view.size, config.view.reduce, config.view.spacing) == (128, 4, (1.0, 0.8, 0.8))
    rng = np.random.default_rng(0)
    coarse, organ = rng.uniform(-900, 0, (4, 20, 24)), np.ones((4, 20, 24), bool)

    def scan(left: int, times: int) -> Case:
        image, roi = np.full((4, 60, 60), -1000.0, np.float32), np.zeros((4, 60, 60), bool)
        place = slice(None), slice(10, 30), slice(left, left + 24)
        image[place], roi[place] = coarse, organ
        image, roi = (a.repeat(times, 1).repeat(times, 2) for a in (image, roi))
        return Case("a", "p", image, (2.0, 4.8 / times, 4.8 / times), roi)

    for anatomy, same in (("lung", True), ("liver", False)):
        view = resolve(ReconstructionConfig, "smoke", anatomy).view
        one, moved, finer = (apply_view(scan(*how), view) for how in ((6, 1), (30, 1), (30, 2)))
        assert np.allclose(one.image, moved.image) == same
        assert np.array_equal(one.roi, moved.roi) == same
        if same:
            assert np.corrcoef(one.image[one.roi & finer.roi], finer.image[one.roi & finer.roi])[0, 1] > 0.9


def test_the_canvas_is_a_multiple_of_the_size():
    with pytest.raises(ConfigError, match="canvas=512, size=96"):
        resolve(ReconstructionConfig, "paper", "lung", {"size": 96})
    assert resolve(ReconstructionConfig, "paper", "liver", {"size": 96}).view == View(size=96)
