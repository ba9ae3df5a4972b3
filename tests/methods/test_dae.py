"""The denoising autoencoder: published settings, noise, schedule, training, score switches."""

import numpy as np
import pytest
import torch
from uasbench.methods.context import FitContext
from uasbench.methods.reconstruction.dae import DAE, coarse_noise, inner_foreground


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_learning_rate_steps_once_per_epoch(train, rates):
    train(DAE, epoch_updates=2, epochs=3, t_max=2, lr=1.0)
    assert rates == pytest.approx([1, 1, 0.5, 0.5, 0, 0])


def test_noise_is_the_enlarged_grid_rolled_by_one_shift_per_image():
    noise = coarse_noise(3, 32, 4, 0.2, generator(5))[:, 0]
    twin = generator(5)
    grid = 0.2 * torch.randn((3, 1, 4, 4), generator=twin)
    large = torch.nn.functional.interpolate(grid, size=(32, 32), mode="bilinear", align_corners=True)[:, 0]
    shifts = torch.randint(32, (2, 3, 1), generator=twin)[..., 0]
    for i in range(3):
        expected = torch.roll(large[i], (int(shifts[0, i]), int(shifts[1, i])), dims=(0, 1))
        assert torch.equal(noise[i], expected)
    assert len({tuple(s) for s in shifts.T.tolist()}) > 1


def test_noise_and_loss_are_inside_the_roi_and_the_target_is_clean(make_method, toy_net, healthy):
    seen = []

    method = make_method(DAE, "smoke")
    method.net = toy_net(lambda x, shift: seen.append(x.detach().clone()) or x + shift, 1.0)
    losses: list[float] = []
    context = FitContext(seed=0, max_updates=1, on_log=lambda _, values: losses.append(values["mse"]))
    method.fit(healthy, context)
    stack = healthy.array(method.view)
    order = context.rng("order").permutation(len(stack))[: len(seen[0])]
    clean, roi = stack.take(order)
    noise = seen[0][:, 0].numpy() - clean
    assert np.abs(noise[roi]).max() > 0.05
    assert not noise[~roi].any()
    assert losses[0] == pytest.approx(float(((noise + 1) ** 2 * roi).mean()), rel=1e-4)


def test_inner_foreground_equals_average_pooling():
    roi = np.random.default_rng(0).random((3, 20, 20)) < 0.9
    roi[:, 5:15, 5:15] = True
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(roi).float()[:, None], 5, 1, 2)[:, 0].numpy()
    assert np.array_equal(inner_foreground(roi, 5, 0.95), roi & (pooled > 0.95))


def test_score_switches(make_method, toy_net):
    array, roi = np.full((2, 32, 32), 0.5, np.float32), np.zeros((2, 32, 32), bool)
    roi[:, 4:28, 4:28] = True
    array[0, 4, 4:28] = 0.9
    array[0, 20, 20] = 0.1
    array[1, 10:20, 10:20] = 0.1
    array[1, 0, 0] = 0.9
    found = {}
    for name, values in {"both": {}, "no median": {"median": 0}, "neither": {"median": 0, "edge_window": 0}}.items():
        method = make_method(DAE, "smoke", values)
        method.net = toy_net(lambda x, _: torch.full_like(x, 0.5))
        found[name] = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert found["both"][0].max() == 0
    assert found["both"][1, 15, 15] == pytest.approx(0.4)
    assert found["no median"][0, 20, 20] == pytest.approx(0.4)
    assert not found["no median"][0, 4].any()
    assert found["neither"][0, 4, 15] == pytest.approx(0.4)
    assert all(m[1, 0, 0] == 0 for m in found.values())
