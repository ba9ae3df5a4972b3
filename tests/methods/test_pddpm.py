"""pDDPM: cosine schedule, noise in one box alone, the loss there, one call per box at test, size of the network."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.diffusion.parts.noise_schedule import Diffusion
from uasbench.methods.diffusion.pddpm import PDDPM
from uasbench.methods.nets.diffusion_unet import DiffusionUNet, SelfAttention, TimedBlock, group_norm
from uasbench.methods.synthesis.simplex import SimplexNoise


class Spy(torch.nn.Module):
    """Predicts one number everywhere and remembers what it saw."""

    def __init__(self, value: float = 0.0):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x, t, condition=None):
        self.seen.append((x.detach().clone(), t.clone()))
        return torch.zeros_like(x) + self.value


def block_parameters(before: int, after: int, time: int) -> int:
    """Norms, two 3×3 convolutions, scale and shift from the time, and a 1×1 shortcut where the width changes."""
    count = 2 * before + 9 * before * after + after + 2 * after * (time + 1) + 2 * after + 9 * after**2 + after
    return count + (before * after + after if before != after else 0)


def unet_parameters(base: int, multipliers: tuple[int, ...], blocks: int, condition: int = 0) -> int:
    dense = base * 4 * base + 4 * base + (4 * base) ** 2 + 4 * base
    total, time = dense + 10 * base, 4 * base
    if condition:
        total += condition * 4 * base + 4 * base + (4 * base) ** 2 + 4 * base
        time *= 2
    skips, width = [base], base
    for i, multiplier in enumerate(multipliers):
        for _ in range(blocks):
            total += block_parameters(width, base * multiplier, time)
            width = base * multiplier
            skips.append(width)
        if i < len(multipliers) - 1:
            total += block_parameters(width, width, time)
            skips.append(width)
    total += 2 * block_parameters(width, width, time) + 2 * width + 3 * width * (width + 1) + width * (width + 1)
    for i, multiplier in reversed(list(enumerate(multipliers))):
        for j in range(blocks + 1):
            total += block_parameters(width + skips.pop(), base * multiplier, time)
            width = base * multiplier
            if i > 0 and j == blocks:
                total += block_parameters(width, width, time)
    return total + 2 * width + 9 * width + 1


def test_the_published_network_has_the_parameters_of_its_layers_and_attends_at_its_deepest_level_alone():
    with torch.device("meta"):
        method = PDDPM(resolve(PDDPM.Config, "paper"))
        method.build()
    assert sum(p.numel() for p in method.net.parameters()) == unet_parameters(128, (1, 2, 2), 3)
    (attention,) = [m for m in method.net.modules() if isinstance(m, SelfAttention)]
    assert attention.to_qkv.in_channels // attention.heads == 64


@given(steps=st.integers(2, 1000))
@settings(max_examples=20, deadline=None)
def test_the_cosine_schedule_is_that_of_its_formula(steps):
    def left(t: int) -> float:
        return math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2

    d = Diffusion(steps, "cosine")
    assert np.allclose(d.betas, [min(1 - left(t + 1) / left(t), 0.999) for t in range(steps)])
    assert np.allclose(d.kept[:-1], [left(t + 1) / left(0) for t in range(steps - 1)], atol=1e-9)
    assert (np.diff(d.kept) < 0).all()
    assert 0 < d.kept[-1] < 0.25


def test_the_middle_of_the_cosine_keeps_half_and_the_other_schedule_is_as_it_was():
    assert Diffusion(1000, "cosine").kept[499] == pytest.approx(0.5, abs=0.01)
    assert Diffusion().betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])


def test_time_scales_and_shifts_after_the_second_normalisation():
    torch.manual_seed(0)
    block = TimedBlock(8, 8, 4, scaled=True)
    torch.nn.init.normal_(block.conv_out.weight)
    x, time = torch.randn(2, 8, 4, 4), torch.randn(2, 4)
    scale, shift = block.shift(torch.nn.functional.silu(time)).view(2, 2, 8, 1, 1).unbind(1)
    h = group_norm(8)(block.conv_in(torch.nn.functional.silu(group_norm(8)(x))))
    expected = x + block.conv_out(torch.nn.functional.silu(h * (1 + scale) + shift))
    assert torch.allclose(block(x, time), expected, atol=1e-5)


def test_a_condition_changes_the_answer_and_doubles_the_embedding():
    net = DiffusionUNet(16, 8, (1, 2), 1, (), 1, scaled=True, condition=5)
    assert sum(p.numel() for p in net.parameters()) == unet_parameters(8, (1, 2), 1, 5)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x, t = torch.rand(1, 1, 16, 16), torch.tensor([3])
    assert not torch.allclose(net(x, t, torch.zeros(1, 5)), net(x, t, torch.ones(1, 5)))


@pytest.mark.parametrize(("side", "box"), [(96, 48), (32, 8), (16, 16)])
def test_boxes_tile_the_square_once(side, box):
    boxes = PDDPM(PDDPM.Config(patch=side, box=box)).boxes("cpu")
    assert boxes.shape == ((side // box) ** 2, 1, side, side)
    assert (boxes.sum(0) == 1).all()
    assert (boxes.sum((1, 2, 3)) == box**2).all()
    assert all(torch.nonzero(b[0]).amax(0).sub(torch.nonzero(b[0]).amin(0)).eq(box - 1).all() for b in boxes)


def test_noise_is_in_one_box_and_the_loss_counts_nothing_else(make_method, healthy):
    """The released loss is the mean over the whole square of an error that is 0 outside the box."""
    method, losses = make_method(PDDPM, settings={"patch": 0, "box": 16}), []
    method.net = Spy(0.25)
    context = FitContext(seed=3, max_updates=1, on_log=lambda _, v: losses.append(v["l1"]))
    method.fit(healthy, context)
    noisy, t = method.net.seen[0]
    stack = healthy.array(method.view)
    clean = 2 * torch.from_numpy(stack.take(context.rng("order").permutation(len(stack))[:4])[0])[:, None] - 1
    draws = torch.Generator().manual_seed(context.seed_for("noise"))
    assert torch.equal(t, torch.randint(1000, (4,), generator=draws))
    inside = method.boxes("cpu")[torch.randint(4, (4,), generator=draws)]
    assert torch.equal(torch.where(inside, 0, noisy), torch.where(inside, 0, clean))
    noise = SimplexNoise(6, 0.8, 8.0).images(torch.randint(2**32, (4,), generator=draws), 32)
    kept = torch.from_numpy(Diffusion(1000, "cosine").kept)[t].view(-1, 1, 1, 1)
    expected = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    assert torch.allclose(noisy[inside], expected.float()[inside], atol=1e-5)
    assert losses[0] == pytest.approx(((0.25 - clean).abs() * inside).mean().item(), rel=1e-5)


def test_pixels_outside_the_box_have_no_gradient(make_method, healthy):
    kept = []

    class Pixels(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.value = torch.nn.Parameter(torch.zeros(4, 1, 32, 32))

        def forward(self, x, t, condition=None):
            self.value.register_hook(lambda gradient: kept.append(gradient.clone()))
            return self.value.expand_as(x)

    method = make_method(PDDPM, settings={"patch": 0, "box": 16})
    method.net = Pixels()
    method.fit(healthy, FitContext(seed=0, max_updates=1))
    touched = (kept[0] != 0)[:, 0]
    boxes = method.boxes("cpu")[:, 0]
    assert all(any(bool((one <= box).all()) for box in boxes) and one.any() for one in touched)


def test_the_loss_over_the_organ_is_the_mean_over_its_pixels_in_the_box(make_method, healthy):
    losses = {}
    for organ in (False, True):
        method = make_method(PDDPM, settings={"patch": 0, "box": 32, "organ_loss": organ})
        method.net = Spy(-1.0)  # the value of the background
        logged = []
        method.fit(healthy, FitContext(seed=0, max_updates=1, on_log=lambda _, v, to=logged: to.append(v["l1"])))
        losses[organ] = logged[0]
    stack = healthy.array(method.view)
    images, rois = stack.take(FitContext(seed=0).rng("order").permutation(len(stack))[:4])
    assert losses[True] == pytest.approx(2 * images[rois].mean(), rel=1e-4)
    assert losses[False] == pytest.approx(2 * images.mean(), rel=1e-4)


@pytest.mark.parametrize("noise", ["simplex", "gaussian"])
def test_one_call_per_box_and_distance_and_boxes_are_stitched(make_method, noise):
    method = make_method(PDDPM, settings={"patch": 0, "box": 16, "distances": (250, 500), "noise": noise, "median": 0})

    class Twice(Spy):
        """Answers the slice that it sees, but 0.1 where t is the later one."""

        def forward(self, x, t, condition=None):
            super().forward(x, t)
            return torch.full_like(x, 0.1 if int(t[0]) == 499 else 0.3)

    method.net = Twice()
    array, roi = np.full((2, 32, 32), 0.5, np.float32), np.zeros((2, 32, 32), bool)
    roi[:, 4:28, 4:28] = True
    array[0, 10:14, 10:14] = 0.9
    map_ = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert [int(t[0]) for _, t in method.net.seen] == [249] * 4 + [499] * 4
    restored = (1 + (0.1 + 0.3) / 2) / 2
    assert map_[0, 12, 12] == pytest.approx(0.9 - restored, rel=1e-4)
    assert map_[1, 20, 20] == pytest.approx(restored - 0.5, rel=1e-4)
    assert not map_[~roi].any()
    clean = 2 * torch.from_numpy(array)[:, None] - 1
    for (noisy, _), box in zip(method.net.seen[:4], method.boxes("cpu"), strict=True):
        assert torch.equal(torch.where(box, 0, noisy), torch.where(box, 0, clean))
        assert not torch.allclose(torch.where(box, noisy, 0), torch.where(box, clean, 0))
    assert method.restore_view(array, roi, map_, (1.0, 1.0, 1.0))["restored"][0, 0, 0] == pytest.approx(restored)


def test_noise_is_new_for_every_slice(train, monkeypatch):
    """The release repeats one field over a batch, and over a test volume."""
    used, images = [], SimplexNoise.images
    monkeypatch.setattr(
        SimplexNoise, "images", lambda self, seeds, size: used.extend(seeds.tolist()) or images(self, seeds, size)
    )
    method, _ = train(PDDPM, limit=3)
    assert len(used) == len(set(used)) == 12
    used.clear()
    array = np.full((5, 32, 32), 0.5, np.float32)
    method.score_view(array, np.ones_like(array, bool), (1.0, 1.0, 1.0))
    assert len(used) == len(set(used)) == 5
    method.config = PDDPM.Config(noise="gaussian")
    gaussian = method.noise_of(np.arange(400), torch.empty(400, 1, 4, 4))
    assert (gaussian.mean().item(), gaussian.std().item()) == pytest.approx((0, 1), abs=0.05)
    assert torch.equal(gaussian[7:8], method.noise_of(np.array([7]), torch.empty(1, 1, 4, 4)))


def test_the_square_around_the_organ_is_what_the_network_sees(make_method):
    array, roi = np.zeros((1, 48, 48), np.float32), np.zeros((1, 48, 48), bool)
    roi[:, 6:22, 20:36] = True
    array[roi] = 0.5
    method = make_method(PDDPM, settings={"size": 48, "patch": 16, "box": 16, "median": 0})
    method.net = Spy(0.0)
    map_ = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert method.net.seen[0][0].shape == (1, 1, 16, 16)
    assert np.allclose(map_, 0, atol=1e-6)
