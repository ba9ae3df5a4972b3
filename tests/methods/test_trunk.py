"""What every method on the trunk inherits: budgets, the first loss, reproducible draws, early stopping, the map."""

from __future__ import annotations

import pytest
import torch
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.card import MethodCard
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.reconstruction.ae import AE, AEConfig
from uasbench.methods.reconstruction.constrained_vae import ConstrainedVAE
from uasbench.methods.reconstruction.context_vae import ContextVAE
from uasbench.methods.reconstruction.gmvae import GMVAE
from uasbench.methods.reconstruction.kl_grad import KLGrad, KLGradCombi
from uasbench.methods.reconstruction.parts.base import BUDGETS, ReconstructionConfig, ReconstructionMethod
from uasbench.methods.reconstruction.vae import VAE, BayesianVAE
from uasbench.methods.reconstruction.vae_original import VAEOriginal
from uasbench.methods.reconstruction.vae_restoration import VAERestoration
from uasbench.methods.reconstruction.vae_spatial import VAESpatial

FAMILY = (VAE, VAESpatial, VAEOriginal, ContextVAE, ConstrainedVAE, BayesianVAE)
SUMMED = (GMVAE, KLGrad, KLGradCombi, VAERestoration)
BAUR_RATE = {GMVAE: 5e-5}


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


@pytest.fixture(scope="module")
def healthy(toy_case):
    return HealthySet.from_cases([toy_case(i)[0] for i in range(3)])


def test_the_budgets_are_those_of_the_two_papers():
    assert BUDGETS["seed2"] == {
        "lr": 3e-4, "beta1": 0.9, "batch": 16, "updates": 6000, "epochs": None, "patience": None,
    }  # fmt: skip
    assert BUDGETS["baur"] == {
        "lr": 1e-4, "beta1": 0.5, "batch": 8, "updates": None, "epochs": 1000, "patience": 5,
    }  # fmt: skip
    assert issubclass(AEConfig, ReconstructionConfig)
    assert AEConfig.profiles is ReconstructionConfig.profiles


def test_the_first_loss_is_minimised_and_all_are_logged(make_method, healthy):
    method, curve = make_method(Probe), []
    method.fit(healthy, FitContext(seed=0, on_log=lambda step, values: curve.append(values)))
    assert method.net.value.item() > 0
    assert [list(values) for values in curve] == [["loss", "against"]] * 10
    assert all(training for training, _ in method.seen)


def test_draws_follow_the_seed(make_method, healthy):
    draws = []
    for seed in (0, 0, 1):
        method = make_method(Probe)
        method.fit(healthy, FitContext(seed=seed))
        draws.append([value for _, value in method.seen])
    assert draws[0] == draws[1]
    assert not set(draws[0]) & set(draws[2])


def test_validation_uses_the_same_draws_every_time_and_evaluation_mode(make_method, healthy):
    method = make_method(Probe, "smoke", {"budget": "baur", "updates": "none", "epochs": 3, "lr": "0.01"})
    method.fit(healthy, FitContext(seed=0))
    checks = [value for training, value in method.seen if not training]
    assert len(checks) == 3
    assert len(set(checks)) == 1
    assert not {value for training, value in method.seen if training} & set(checks)


def test_the_optimiser_gets_rate_and_beta_of_the_budget(make_method, healthy, monkeypatch):
    made = []
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda parameters, **k: made.append(k) or adam(parameters, **k))
    for budget in BUDGETS:
        make_method(AE, "smoke", {"budget": budget, "lr": "none"}).fit(healthy, FitContext(seed=0, max_updates=1))
    assert made == [{"lr": 3e-4, "betas": (0.9, 0.999)}, {"lr": 1e-4, "betas": (0.5, 0.999)}]


def test_a_method_without_its_parts_says_so():
    bare = ReconstructionMethod()
    with pytest.raises(TypeError, match="make_net"):
        bare.build()
    with pytest.raises(TypeError, match="losses"):
        bare.losses(torch.zeros(1), torch.zeros(1), torch.Generator())


@pytest.mark.parametrize("cls", FAMILY)
def test_cards_print_the_published_rows_and_the_decisions(cls):
    assert (cls.card.family, cls.card.uses, bool(cls.card.notes)) == ("reconstruction", "healthy", True)
    assert [row[1:3] for row in cls.card.published] == [
        (data, metric) for data in ("coronacases", "radiopaedia") for metric in ("dice", "psc", "sen")
    ]


@pytest.mark.parametrize("cls", [AE, *FAMILY, *SUMMED])
def test_the_other_budget_is_that_of_the_trunk_unless_told_otherwise(cls):
    for anatomy in ("liver", "lung"):
        baur = resolve(cls.Config, "paper", anatomy, {"budget": "baur"})
        assert (baur.lr, baur.beta1, baur.batch) == (BAUR_RATE.get(cls, 1e-4), 0.5, 8)
        assert (baur.updates, baur.epochs, baur.patience) == (None, 1000, 5)
        told = resolve(cls.Config, "paper", anatomy, {"budget": "baur", "lr": "5e-4", "patience": "2"})
        assert (told.lr, told.beta1, told.patience) == (5e-4, 0.5, 2)
