"""AnoDDPM: schedule, training, averaged weights, noise of scoring, both samplers."""

import math

import numpy as np
import pytest
import torch
from uasbench.methods.context import FitContext
from uasbench.methods.diffusion.anoddpm import AnoDDPM
from uasbench.methods.diffusion.parts.noise_schedule import Diffusion, path
from uasbench.methods.synthesis.simplex import SimplexNoise


def image(seed: int = 0, n: int = 2) -> torch.Tensor:
    return torch.rand((n, 1, 4, 4), generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def test_betas_are_linear_and_the_product_is_kept():
    d = Diffusion(1000)
    assert d.betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    assert np.allclose(np.diff(d.betas), (0.02 - 1e-4) / 999)
    assert d.kept[199] == pytest.approx(math.prod(1 - (1e-4 + i * (0.02 - 1e-4) / 999) for i in range(200)))
    assert d.kept[-1] < 1e-4
    assert Diffusion(250).betas[0] == pytest.approx(4e-4)
    assert math.log(Diffusion(250).kept[-1]) == pytest.approx(math.log(d.kept[-1]), rel=0.05)


def test_each_image_is_mixed_by_its_own_step_and_its_prediction_is_cut():
    d, x, noise = Diffusion(), image(), torch.full((2, 1, 4, 4), 2.0)
    mixed = d.noisy(x, torch.tensor([0, 500]), noise)
    for i, t in enumerate((0, 500)):
        expected = math.sqrt(d.kept[t]) * x[i] + math.sqrt(1 - d.kept[t]) * 2
        assert torch.allclose(mixed[i], expected, atol=1e-6)
    t = 199
    x, noise = torch.full((1, 1, 1, 1), 0.9), torch.full((1, 1, 1, 1), 3.0)
    noisy = d.noisy(x, torch.tensor([t]), noise)
    assert noisy.item() > 1
    assert d.clean(noisy, t, noise).item() == pytest.approx(0.9, abs=1e-5)
    assert d.clean(noisy, t, -noise).item() == 1


@pytest.mark.parametrize("jumps", [1, 5, 200])
def test_the_implicit_path_with_the_true_noise_is_exact(jumps):
    d, x = Diffusion(), image()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    visited = path(200, jumps)
    moving = d.noisy(x, torch.full((2,), visited[0]), noise)
    for t, to in zip(visited, [*visited[1:], -1], strict=True):
        moving = d.implicit(moving, t, d.clean(moving, t, noise), to)
        if to >= 0:
            assert torch.allclose(moving, d.noisy(x, torch.full((2,), to), noise), atol=1e-4)
    assert torch.allclose(moving, x, atol=1e-4)


@pytest.mark.parametrize("t", [1, 40, 199])
def test_the_ancestral_mean_is_that_of_the_posterior(t):
    """Bayes: the product of two normal densities, q(x_t | x_{t−1}) and q(x_{t−1} | x_0)."""
    d, x0, xt = Diffusion(), 0.3, 0.7
    beta, before = d.betas[t], d.kept[t - 1]
    precision = (1 - beta) / beta + 1 / (1 - before)
    mean = (math.sqrt(1 - beta) * xt / beta + math.sqrt(before) * x0 / (1 - before)) / precision
    shape = (1, 1, 1, 1)
    found = d.ancestral(torch.full(shape, xt), t, torch.full(shape, x0), torch.zeros(shape)).item()
    assert found == pytest.approx(mean, rel=1e-4)
    fresh = d.ancestral(torch.full(shape, xt), t, torch.full(shape, x0), torch.ones(shape)).item()
    assert fresh - found == pytest.approx(math.sqrt(beta), rel=1e-3)
    x = image()
    assert torch.allclose(d.ancestral(torch.zeros_like(x), 0, x, torch.ones_like(x)), x, atol=1e-5)


def test_paths_go_all_the_way_down_once():
    assert path(200, 200) == list(range(199, -1, -1))
    assert path(250, 1) == [249]
    for jumps in (2, 7, 50):
        visited = path(250, jumps)
        assert (visited[0], visited[-1], len(visited)) == (249, 0, jumps)
        assert max(-np.diff(visited)) - min(-np.diff(visited)) <= 1
    assert path(3, 50) == [2, 1, 0]


class Spy(torch.nn.Module):
    """Predicts one number everywhere and remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x, t):
        self.seen.append((x.detach().clone(), t.clone()))
        return torch.zeros_like(x) + self.bias


def test_training_sees_noisy_slices_and_predicts_their_noise(make_method, healthy):
    """Scoring has noise of its own, which follows the seed of the training."""
    method, losses = make_method(AnoDDPM), []
    method.net = Spy()
    context = FitContext(seed=3, max_updates=1, on_log=lambda _, v: losses.append(v["mse"]))
    method.fit(healthy, context)
    assert method.noise_seed == context.seed_for("score-noise")
    noisy, t = method.net.seen[0]
    stack = healthy.array(method.view)
    clean = 2 * torch.from_numpy(stack.take(context.rng("order").permutation(len(stack))[:4])[0])[:, None] - 1
    kept = torch.from_numpy(Diffusion().kept)[t].view(-1, 1, 1, 1).float()
    noise = (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
    assert losses[0] == pytest.approx(noise.square().mean().item(), rel=1e-2)
    draws = torch.Generator().manual_seed(context.seed_for("noise"))
    assert torch.equal(t, torch.randint(800, (4,), generator=draws))
    seeds = torch.randint(2**32, (4,), generator=draws)
    usual = t > 50
    expected = SimplexNoise(6, 0.8, 8.0).images(seeds, 32)
    assert torch.allclose(noise[usual], expected[usual], atol=1e-3)


def test_noise_is_new_for_every_slice_and_update(train, monkeypatch):
    """Released code makes one noise per batch, and all of them from a seed drawn once; gradients are clipped."""
    used, norms = [], []
    images, clip = SimplexNoise.images, torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        SimplexNoise, "images", lambda self, seeds, size: used.extend(seeds.tolist()) or images(self, seeds, size)
    )
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda p, limit: norms.append(limit) or clip(p, limit))
    train(AnoDDPM, updates=3)
    assert len(used) == len(set(used)) == 12
    assert norms == [1.0] * 3


def test_the_network_ends_with_averaged_weights(make_method, healthy):
    trail = []

    class Recorder(Spy):
        def forward(self, x, t):
            trail.append(self.bias.item())
            return super().forward(x, t)

    method = make_method(AnoDDPM, "smoke", {"ema": 0.9, "updates": 4})
    method.net = Recorder()
    method.fit(healthy, FitContext(seed=0))
    mean = trail[0]
    for value in trail[1:]:
        mean = 0.9 * mean + 0.1 * value
    assert len(set(trail)) == 4
    last = method.net.bias.item()
    assert min(abs(last), abs(trail[-1])) > 0
    assert abs(last) < abs(trail[-1])  # weights move away from 0, their average follows behind
    assert abs(last - mean) <= 0.1 * max(abs(v) for v in trail) + 2e-4


@pytest.mark.parametrize(("sampler", "jumps", "calls"), [("ddim", 1, 1), ("ddim", 3, 3), ("ddpm", 3, 12)])
def test_score_is_the_squared_error_of_grey_values_inside_the_organ(make_method, sampler, jumps, calls):
    class Oracle(Spy):
        """Knows that every clean slice is grey, so that it predicts the rest as noise."""

        def forward(self, x, t):
            super().forward(x, t)
            kept = torch.from_numpy(Diffusion().kept)[t].view(-1, 1, 1, 1).float()
            return x / (1 - kept).sqrt()

    method = make_method(AnoDDPM, "smoke", {"sampler": sampler, "jumps": jumps, "distance": 12})
    method.net = Oracle()
    array, roi = np.full((2, 32, 32), 0.5, np.float32), np.zeros((2, 32, 32), bool)
    roi[:, 4:28, 4:28] = True
    array[0, 10:14, 10:14] = 0.9
    array[1, 0, 0] = 1
    map_ = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert map_.dtype == np.float32
    assert map_[0, 12, 12] == pytest.approx((2 * 0.4) ** 2, rel=1e-3)
    assert map_[0, 20, 20] == pytest.approx(0, abs=1e-6)
    assert not map_[~roi].any()
    steps = [int(t[0]) for _, t in method.net.seen]
    assert len(steps) == calls
    assert (steps[0], steps[-1]) == (11, 0 if calls > 1 else 11)
    assert steps == sorted(steps, reverse=True)


def test_score_of_the_other_sampler_depends_on_no_other_case(train, toy_case):
    method, _ = train(AnoDDPM, limit=2, sampler="ddpm", distance=3)
    a, b = (toy_case(i, lesion=True)[0] for i in (9, 10))
    alone = method.score(a)
    method.score(b)
    assert np.array_equal(method.score(a), alone)


def test_slices_get_noise_of_their_own_whatever_the_batch(train, monkeypatch):
    from uasbench.methods.diffusion import anoddpm

    method, _ = train(AnoDDPM, limit=0)
    array = np.full((5, 32, 32), 0.5, np.float32)
    roi = np.ones_like(array, bool)
    together = method.score_view(array, roi, (1.0, 1.0, 1.0))
    monkeypatch.setattr(anoddpm, "SCORE_BATCH", 2)
    assert np.allclose(method.score_view(array, roi, (1.0, 1.0, 1.0)), together, atol=1e-5)
    assert all(not np.array_equal(together[0], m) for m in together[1:])


def test_repeats_average_restorations_and_erosion_drops_the_edge(train, monkeypatch):
    method, _ = train(AnoDDPM, limit=0, repeats=2, erode=3)
    answers = iter([0.2, 0.6])
    monkeypatch.setattr(method, "denoise", lambda clean, seeds: torch.full_like(clean, next(answers)))
    roi = np.zeros((1, 32, 32), bool)
    roi[:, 4:28, 4:28] = True
    map_ = method.score_view(np.full((1, 32, 32), 0.5, np.float32), roi, (1.0, 1.0, 1.0))
    assert map_[0, 16, 16] == pytest.approx(0.4**2, rel=1e-4)
    assert not map_[0, 6].any()
    assert map_[0, 7, 16] > 0


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_repeats_in_one_batch_are_those_one_after_the_other(train, monkeypatch, sampler):
    from uasbench.methods.diffusion import anoddpm

    method, _ = train(AnoDDPM, limit=1, repeats=3, sampler=sampler, distance=3)
    array = np.random.default_rng(0).random((5, 32, 32), np.float32)
    roi = np.ones_like(array, bool)
    alone = method.score_view(array, roi, (1.0, 1.0, 1.0))
    monkeypatch.setattr(anoddpm, "untried", lambda device: True)
    assert np.allclose(method.score_view(array, roi, (1.0, 1.0, 1.0)), alone, atol=1e-5)


def test_a_patch_shows_the_network_the_square_around_the_organ(make_method, healthy):
    array, roi = np.zeros((3, 48, 48), np.float32), np.zeros((3, 48, 48), bool)
    roi[:, 6:22, 20:36] = True
    array[roi] = 0.5
    array[1, 10:14, 24:28] = 0.75
    method = make_method(AnoDDPM, "smoke", {"size": 48, "patch": 16})
    shown = []

    def grey(clean, seeds):
        shown.append(clean)
        return torch.zeros_like(clean)

    method.denoise = grey
    map_ = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert [tuple(x.shape) for x in shown] == [(3, 1, 16, 16)]
    expected = torch.zeros(3, 1, 16, 16)
    expected[1, 0, 4:8, 4:8] = 0.5
    assert torch.allclose(shown[0], expected, atol=1e-6)
    assert np.allclose(map_, np.where(array == 0.75, 0.25, 0), atol=1e-6)
    method.net = Spy()
    method.fit(healthy, FitContext(seed=3, max_updates=1))
    assert method.net.seen[0][0].shape == (4, 1, 16, 16), "training sees patches too"
