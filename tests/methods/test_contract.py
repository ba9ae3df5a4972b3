"""The card, the context, the training loop and the saved state."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from uasbench import FitContext, Method, MethodCard
from uasbench.common.seeds import derive
from uasbench.methods.context import TrainingError
from uasbench.methods.state import load_state, parameter_count
from uasbench.methods.training import Batches, run_updates


class Net(Method):
    card = MethodCard(name="net", title="A net")

    def build(self) -> None:
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


class LateNet(Method):
    card = MethodCard(name="late-net", title="A net made in fit")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        *(({"name": name}, "method name") for name in ("", "AE", "a_b", "-a", "a--b", "a b")),
        ({"slice_score": "median"}, "slice_score"),
    ],
)
def test_a_card_refuses_bad_names_and_unknown_slice_scores(wrong, said):
    assert MethodCard(name="a", title="x", slice_score=("meanpool", 21)).slice_score == ("meanpool", 21)
    with pytest.raises(ValueError, match=said):
        MethodCard(**{"name": "a", "title": "x"} | wrong)


def test_a_card_with_figures_leaves_the_parameters_to_be_counted():
    loss = ("loss", "L2", "L1")
    assert MethodCard(name="a", title="x", figures=(loss,)).figures == (("parameters", "n/p", ""), loss)
    printed = ("parameters", "2 M", "")
    assert MethodCard(name="a", title="x", figures=(printed, loss)).figures == (printed, loss)
    assert MethodCard(name="a", title="x").figures == ()


@given(st.integers(0, 2**31), st.text(max_size=8), st.text(max_size=8))
def test_seeds_differ_by_purpose_and_repeat(seed, a, b):
    assert derive(seed, a) == derive(seed, a)
    assert (derive(seed, a) == derive(seed, b)) == (a == b)
    assert derive(seed, a, b) != derive(seed, a + b)


def test_batches_cover_each_epoch_once():
    draws = Batches(10, 4, np.random.default_rng(0))
    first = np.concatenate([next(draws) for _ in range(5)])
    assert sorted(first[:10]) == sorted(first[10:]) == list(range(10))
    with pytest.raises(TrainingError, match="no training slices"):
        Batches(0, 4, np.random.default_rng(0))


def test_updates_respect_the_budget_and_stop_at_a_loss_that_is_not_finite():
    steps, curve = [], []
    context = FitContext(0, max_updates=3, on_log=lambda step, values: curve.append((step, values)))
    assert run_updates(context, 100, lambda i: steps.append(i) or {"loss": torch.tensor(1.0)}, phase="one") == 3
    assert steps == [0, 1, 2]
    assert curve[-1] == (2, {"one/loss": 1.0})
    with pytest.raises(TrainingError, match="loss is nan at update 0"):
        run_updates(FitContext(0), 1, lambda _: {"loss": math.nan})


def test_a_state_survives_saving(tmp_path):
    method = Net()
    method.build()
    method.net(torch.randn(8, 3))
    method.mean = np.arange(3, dtype=np.float32)
    method.parts = [torch.ones(2), {"k": (1, "a", None)}]
    method.save(tmp_path / "state.pt")
    other = Net()
    load_state(other, tmp_path / "state.pt")
    for a, b in zip(method.net.state_dict().values(), other.net.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert np.array_equal(other.mean, method.mean)
    assert other.mean.dtype == np.float32
    assert other.parts[1] == {"k": (1, "a", None)}
    assert parameter_count(other) == 3 * 2 + 2 + 2 + 2


def test_what_cannot_be_saved_or_rebuilt_is_said(tmp_path):
    method = LateNet()
    method.table = object()
    with pytest.raises(TypeError, match=r"LateNet\.table is a object"):
        method.save(tmp_path / "state.pt")
    del method.table
    method.net = torch.nn.Linear(1, 1)
    method.save(tmp_path / "state.pt")
    with pytest.raises(TypeError, match=r"create networks in build\(\)"):
        LateNet().load(tmp_path / "state.pt")
