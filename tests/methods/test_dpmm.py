"""The Dirichlet-process mixture: densities and steps against NumPy, the stick, empty components, memory, resuming."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma, logsumexp
from scipy.stats import multivariate_normal
from torch.utils._python_dispatch import TorchDispatchMode
from uasbench.methods.features.dpmm import DPMM
from uasbench.methods.features.parts import dirichlet_mixture
from uasbench.methods.features.parts.dirichlet_mixture import DirichletMixture

KINDS = ("full", "diagonal")


def clusters(count: int = 300, seed: int = 0) -> torch.Tensor:
    """Nine Gaussians on a grid of the plane."""
    rng = np.random.default_rng(seed)
    centres = np.stack(np.meshgrid([-4, 0, 4], [-4, 0, 4]), axis=-1).reshape(9, 2)
    return torch.from_numpy(centres[rng.integers(9, size=count)] + rng.normal(size=(count, 2)) / 2).float()


def begun(vectors: torch.Tensor, components: int = 12, seed: int = 0, **more) -> DirichletMixture:
    mixture = DirichletMixture(components, vectors.shape[1], **more)
    mixture.begin(vectors, torch.Generator().manual_seed(seed))
    return mixture


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_is_that_of_the_formulas(kind):
    """Schulthess & Konukoglu 2025, component by component in double precision."""
    vectors = clusters()
    mixture = begun(vectors, 5, covariance=kind, epsilon=0.01)
    x, step, count = vectors.double().numpy(), 0.2, len(vectors)
    for _ in range(3):
        share, first, second = (getattr(mixture, n).double().numpy() for n in ("share", "first", "second"))
        v, alpha = mixture.sticks.double().numpy(), float(mixture.alpha)
        weights = v * np.cumprod([1, *(1 - v[:-1])])
        assert weights.sum() == pytest.approx(1, abs=1e-6)
        means = first / share[:, None]
        joint = np.empty((count, 5))
        for k in range(5):
            moment = second[k] / share[k] - (np.outer(means[k], means[k]) if kind == "full" else means[k] ** 2)
            spread = moment + 0.01 * np.eye(2) if kind == "full" else np.diag(moment + 0.01)
            joint[:, k] = np.log(weights[k]) + multivariate_normal(means[k], spread).logpdf(x)
        assert np.allclose(mixture.log_densities(vectors), joint, rtol=1e-3, atol=1e-3)
        r = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        told = mixture.learn(vectors)
        assert float(told) == pytest.approx(-logsumexp(joint, axis=1).mean(), rel=1e-4)
        share = (1 - step) * share + step * r.mean(axis=0)
        first = (1 - step) * first + step * r.T @ x / count
        squares = np.einsum("nk,nd,ne->kde", r, x, x) if kind == "full" else r.T @ x**2
        second = (1 - step) * second + step * squares / count
        for name, wanted in (("share", share), ("first", first), ("second", second)):
            assert np.allclose(getattr(mixture, name), wanted, rtol=1e-3, atol=1e-3), name
        rest = np.array([share[k + 1 :].sum() for k in range(5)])
        sticks = np.append((share / (share + (alpha - 1) / count + rest))[:-1], 1)
        assert np.allclose(mixture.sticks, sticks, atol=1e-4)
        n = count
        gaps = digamma(n * (share + rest)[:-1] + alpha + 1) - digamma(n * rest[:-1] + alpha)
        assert float(mixture.alpha) == pytest.approx(4 / gaps.sum(), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_likelihood_rises_and_nine_clusters_are_found(kind):
    vectors = clusters(900)
    mixture = begun(vectors, 30, covariance=kind, step=1.0)
    curve = [float(mixture.learn(vectors)) for _ in range(60)]
    assert curve[-1] < curve[0] - 0.5
    assert all(b < a + 0.02 for a, b in pairwise(curve[1:]))
    weights = mixture.log_weights().exp()
    centres = torch.cartesian_prod(*[torch.tensor([-4.0, 0.0, 4.0])] * 2)
    near = torch.cdist(centres, mixture.means[weights > 0.01]).amin(dim=1)
    assert (near < 0.5).sum() >= 7
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)


@given(seed=st.integers(0, 99), step=st.sampled_from([0.2, 1.0]), alpha=st.sampled_from([0.3, 1.0, 2.0, 20.0]))
@settings(max_examples=20, deadline=None)
def test_weights_sum_to_one_and_alpha_stays_finite(seed, step, alpha):
    vectors = clusters(40, seed)
    mixture = begun(vectors, 25, seed, step=step, alpha=alpha)
    for _ in range(8):
        assert math.isfinite(float(mixture.learn(vectors)))
        assert float(mixture.log_weights().exp().sum()) == pytest.approx(1, abs=1e-4)
        assert 0 < float(mixture.alpha) < math.inf
        assert ((mixture.sticks >= 0) & (mixture.sticks <= 1)).all()


def test_permuted_vectors_of_a_batch_give_the_same_mixture():
    vectors = clusters()
    one, other = begun(vectors), begun(vectors)
    one.learn(vectors)
    other.learn(vectors[torch.randperm(len(vectors), generator=torch.Generator().manual_seed(1))])
    assert torch.allclose(one.means, other.means, atol=1e-4)
    assert torch.allclose(one.second, other.second, atol=1e-4)


def test_initial_means_are_drawn_from_all_vectors_and_none_twice():
    """Not from the first ones, which are those of one image."""
    vectors = torch.arange(2000.0).view(1000, 2)
    for seed in range(3):
        rows = (begun(vectors, 20, seed).means[:, 0] / 2).round().int().tolist()
        assert len(set(rows)) == 20
        assert min(rows) < 500 < max(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_component_takes_no_part(kind):
    vectors = clusters(10)
    mixture = begun(vectors, 16, covariance=kind)
    assert int(mixture.alive.sum()) == 10, "there are no more vectors to begin with"
    for _ in range(120):
        mixture.learn(vectors[:3])
    dead = ~mixture.alive
    assert dead.sum() >= 6
    assert torch.isneginf(mixture.log_densities(vectors)[:, dead]).all()
    assert (mixture.means[dead] == 0).all()
    assert mixture.log_densities(vectors).logsumexp(dim=1).isfinite().all()
    assert all(value.isfinite().all() for value in mixture.state_dict().values())


def test_an_empty_component_is_near_to_nothing(train):
    """A mean of 0 would be as far from everything, and one left from before would hide anomalies."""
    method, _ = train(DPMM)
    with torch.no_grad():
        for average in (method.mixture.share, method.mixture.first, method.mixture.second):
            average[0] = 0
        method.mixture.sticks[0] = 0.5
    queries = torch.nn.functional.normalize(torch.randn(9, method.width), dim=1)
    means = torch.nn.functional.normalize(method.mixture.means[1:], dim=1)
    weights = method.mixture.log_weights().exp()[1:]
    wanted = 1 - (queries @ means.T)[:, (weights > 1e-6) & method.mixture.alive[1:]].amax(dim=1)
    assert torch.allclose(method.distances(queries), wanted, atol=1e-5)


class Largest(TorchDispatchMode):
    """Remembers how many values the largest table that is made has."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        views = ("expand", "unsqueeze", "transpose", "permute")
        if isinstance(made, torch.Tensor) and not any(view in func._schema.name for view in views):
            self.values = max(self.values, made.numel())
        return made


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_change_nothing_and_no_table_of_outer_products_is_made(kind, monkeypatch):
    count, width, components = 200, 30, 4
    vectors = torch.randn(count, width, generator=torch.Generator().manual_seed(0))
    one = begun(vectors, components, covariance=kind)
    one.learn(vectors)
    monkeypatch.setattr(dirichlet_mixture, "CHUNK_BYTES", 1)
    other = begun(vectors, components, covariance=kind)
    with Largest() as largest:
        other.learn(vectors)
    assert torch.allclose(one.second, other.second, atol=1e-5)
    assert count * width <= largest.values <= max(count, components * width) * width < count * width**2


def test_all_that_a_fit_needs_is_in_the_state():
    vectors = clusters()
    one = begun(vectors, 8)
    one.learn(vectors)
    other = DirichletMixture(8, 2, alpha=7.0)
    other.load_state_dict(one.state_dict())
    assert float(other.alpha) == float(one.alpha) != 7
    for mixture in (one, other):
        mixture.learn(vectors)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_the_other_score_is_what_the_fit_minimises(train, toy_case):
    method, curve = train(DPMM, score="density")
    assert [set(values) for values in curve] == [{"nll"}] * len(curve)
    assert len(curve) == 2 * math.ceil(24 / 12), "two epochs of mini-batches of twelve slices"
    features = torch.nn.functional.normalize(torch.randn(5, method.width), dim=1)
    wanted = -method.mixture.log_densities(features).logsumexp(dim=1)
    assert torch.allclose(method.distances(features), wanted)
    assert np.isfinite(method.score(toy_case(9, lesion=True)[0])).all()
