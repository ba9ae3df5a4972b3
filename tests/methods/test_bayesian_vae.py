"""The Bayesian reading of the variational autoencoder: one training, thinned networks at test time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import ConfigError, resolve
from uasbench.methods.context import FitContext
from uasbench.methods.nets.seeded_dropout import SeededDropout
from uasbench.methods.reconstruction.vae import VAE, BayesianVAE, BayesianVAEConfig, VAEConfig


@pytest.fixture(scope="module")
def trained(make_method, toy_case):
    method = make_method(BayesianVAE, "smoke", {"norm": "affine", "dropout": 0.3, "samples": 5})
    healthy = HealthySet.from_cases([toy_case(i)[0] for i in range(2)])
    method.fit(healthy, FitContext(seed=0, max_updates=5))
    return method


def with_samples(trained, tmp_path, cls=BayesianVAE, **values):
    trained.save(tmp_path / "state.pt")
    method = cls(dataclasses.replace(trained.config, **values))
    method.load(tmp_path / "state.pt")
    return method


@pytest.mark.parametrize("values", [{"dropout": 0.0}, {"samples": 0}])
def test_nothing_to_sample_is_refused(values):
    with pytest.raises(ConfigError, match="set dropout above 0"):
        resolve(BayesianVAEConfig, "smoke", "liver", values)


def test_a_state_of_either_serves_the_other(trained, toy_case, tmp_path):
    case, _ = toy_case(9, lesion=True)
    plain = VAE(dataclasses.replace(resolve(VAEConfig, "smoke", "liver"), norm="affine", dropout=0.3))
    trained.save(tmp_path / "bayesian.pt")
    plain.load(tmp_path / "bayesian.pt")
    plain.save(tmp_path / "plain.pt")
    back = BayesianVAE(trained.config)
    back.load(tmp_path / "plain.pt")
    assert np.array_equal(back.score(case), trained.score(case))
    assert not np.allclose(plain.score(case), trained.score(case), atol=1e-5)


def test_batches_do_not_change_the_thinned_networks(trained, toy_case, monkeypatch):
    from uasbench.methods.reconstruction import vae

    case, _ = toy_case(9)
    whole = trained.score(case)
    monkeypatch.setattr(vae, "SCORE_BATCH", 3)
    assert np.allclose(trained.score(case), whole, atol=1e-5)


def test_the_map_is_the_mean_residual_not_the_residual_of_the_mean(trained):
    array = np.random.default_rng(0).random((3, 32, 32)).astype(np.float32)
    passes = np.stack([trained.thinned(array, i) for i in range(5)])
    assert len({p.tobytes() for p in passes}) == 5
    scores = trained.score_view(array, np.ones(array.shape, bool), (1.0, 1.0, 1.0))
    assert np.allclose(scores, np.abs(array - passes).mean(0), atol=1e-6)
    assert not np.allclose(scores, np.abs(array - passes.mean(0)), atol=1e-5)


def test_the_mean_over_many_networks_settles(trained, tmp_path):
    array = np.random.default_rng(0).random((1, 32, 32)).astype(np.float32)
    roi = np.ones(array.shape, bool)
    few, many, more = (
        with_samples(trained, tmp_path, samples=n).score_view(array, roi, (1.0, 1.0, 1.0)) for n in (1, 100, 200)
    )
    assert np.abs(many - more).mean() < 0.3 * np.abs(few - more).mean()


def test_the_seed_of_the_fit_decides_the_networks(trained, toy_case, tmp_path):
    case, _ = toy_case(9)
    other = with_samples(trained, tmp_path)
    assert np.array_equal(other.score(case), trained.score(case))
    other.dropout_seed += 1
    assert not np.array_equal(other.score(case), trained.score(case))


def test_dropout_rests_again_after_scoring(trained, toy_case):
    trained.score(toy_case(9)[0])
    assert not any(m.training or m.shared for m in trained.net.modules() if isinstance(m, SeededDropout))
