"""cDDPM: the masked pre-training of its encoder, the condition, the mean over distances, size of the networks."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from uasbench.benchmark.catalogue.sizes import count_parameters
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.diffusion.cddpm import CDDPM
from uasbench.methods.nets.diffusion_unet import DiffusionUNet
from uasbench.methods.nets.masked_resnet import (
    MaskedBatchNorm2d,
    MaskedModelling,
    ResNetEncoder,
    hidden_error,
    random_cells,
)

RESNET_50, CLASSES, PIXELS_OF_THE_STEM = 25_557_032, 1000, 64 * 7 * 7


def encoder(seed: int = 0) -> ResNetEncoder:
    torch.manual_seed(seed)
    return ResNetEncoder(6, (4, 8), (1, 2))


def test_the_published_networks_have_the_parameters_of_their_layers():
    """ResNet-50 with one channel and 512 outputs, the U-Net with a condition, and the decoder level by level."""
    embedding = RESNET_50 - 2 * PIXELS_OF_THE_STEM - 2049 * CLASSES + 2049 * 512
    with torch.device("meta"):
        unet = DiffusionUNet(96, 128, (1, 2, 2), 3, (), 4, scaled=True, condition=512)
        assert sum(p.numel() for p in ResNetEncoder().parameters()) == embedding
    maps, widths = (2048, 1024, 512, 256), (512, 256, 128, 64, 32, 16)
    decoder = sum(2 * n + n for n in maps) + widths[-1] + 1  # norms, tokens, head
    for i, (n, width) in enumerate(zip(maps, widths, strict=False)):
        decoder += (9 if i else 1) * n * width + width
    for before, after in pairwise(widths):
        decoder += 16 * before**2 + before + 9 * before**2 + 2 * before + 9 * before * after + 2 * after
    total = count_parameters(CDDPM, resolve(CDDPM.Config, "paper"))
    assert total == embedding + decoder + sum(p.numel() for p in unet.parameters())


def test_statistics_are_those_of_visible_cells_and_hidden_cells_stay_zero():
    torch.manual_seed(0)
    norm, x = MaskedBatchNorm2d(3), torch.randn(4, 3, 8, 8) * 2 + 5
    visible = random_cells(4, 4, 0.5, torch.Generator().manual_seed(1))
    norm.visible = visible
    found = norm(x)
    inside = visible.repeat_interleave(2, 2).repeat_interleave(2, 3).bool().expand_as(x)
    assert not found[~inside].any()
    for c in range(3):
        seen = x[:, c][inside[:, c]]
        expected = (seen - seen.mean()) / (seen.var(unbiased=False) + norm.eps).sqrt()
        assert torch.allclose(found[:, c][inside[:, c]], expected, atol=1e-5)
        assert norm.running_mean[c] == pytest.approx(0.1 * seen.mean().item(), rel=1e-4)
        assert norm.running_var[c] == pytest.approx(0.9 + 0.1 * seen.var().item(), rel=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_with_all_cells_visible_it_is_batch_normalisation(training):
    x, norm, plain = torch.randn(4, 3, 8, 8) + 1, MaskedBatchNorm2d(3), torch.nn.BatchNorm2d(3)
    norm.visible = torch.ones(4, 1, 2, 2)
    assert torch.allclose(norm.train(training)(x), plain.train(training)(x), atol=1e-5)
    assert torch.allclose(norm.running_var, plain.running_var, atol=1e-5)


def test_what_is_hidden_reaches_no_visible_part_of_the_encoder():
    net, x = encoder().eval(), torch.rand(1, 1, 32, 32)
    filling = MaskedModelling(net, 8).eval()
    visible = random_cells(1, 4, 0.65, torch.Generator().manual_seed(0))
    hidden = 1 - visible.repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert torch.equal(filling(net, x, visible), filling(net, x + hidden, visible))
    assert not torch.equal(filling(net, x, visible), filling(net, x + (1 - hidden), visible))
    assert net.net.bn1.visible is None
    assert torch.equal(net(x), net(x.clone()))


@given(side=st.integers(2, 6), hidden=st.floats(0.01, 0.99), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_a_share_of_the_cells_is_hidden_in_each_image(side, hidden, seed):
    cells = random_cells(3, side, hidden, torch.Generator().manual_seed(seed)).flatten(1)
    assert set(cells.unique().tolist()) == {0.0, 1.0}
    left = cells.sum(1)
    assert (left == left[0]).all()
    assert abs(left[0].item() - (1 - hidden) * side**2) <= 1


def test_the_error_is_that_of_hidden_cells_scaled_one_by_one():
    torch.manual_seed(0)
    images, predicted = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    visible = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]], [[[0.0, 1.0], [1.0, 1.0]]]])
    errors = []
    for image, row, column in ((0, 0, 1), (0, 1, 0), (1, 0, 0)):
        at = np.s_[image, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        cell = images[at]
        scaled = (cell - cell.mean()) / (cell.var(unbiased=False) + 1e-6).sqrt()
        errors.append((predicted[at] - scaled).square().mean())
    assert hidden_error(predicted, images, visible).item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def test_pretraining_trains_the_encoder_which_then_learns_on(make_method, healthy):
    method, curves = make_method(CDDPM), []
    start = method.encoder.net.conv1.weight.clone()
    steps = []
    method.fit(healthy, FitContext(0, on_log=lambda step, values: (steps.append(step), curves.append(*values))))
    assert curves == ["pretraining/hidden"] * 4 + ["denoising/l1"] * 6
    assert steps == list(range(10))
    assert not torch.equal(method.encoder.net.conv1.weight, start)
    without = make_method(CDDPM, settings={"pretrain_updates": 0})
    without.fit(healthy, FitContext(0, max_updates=0))
    assert torch.equal(without.encoder.net.conv1.weight, start)


def test_the_network_is_told_of_the_clean_slice_and_the_restorations_are_averaged(make_method):
    method, told, steps = make_method(CDDPM, settings={"patch": 0, "median": 0}), [], []

    class Spy(torch.nn.Module):
        def forward(self, x, t, condition):
            told.append(condition)
            steps.append(int(t[0]))
            return torch.full_like(x, {249: 0.0, 499: 0.3, 749: 0.6}[steps[-1]])

    method.net = Spy()
    array, roi = np.full((2, 32, 32), 0.5, np.float32), np.ones((2, 32, 32), bool)
    array[1, 8:20, 8:20] = 0.8
    map_ = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert steps == [249, 499, 749]
    expected = method.encoder(2 * torch.from_numpy(array)[:, None] - 1)
    assert all(torch.allclose(condition, expected, atol=1e-6) for condition in told)
    assert not torch.allclose(expected[0], expected[1])
    assert map_[0, 0, 0] == pytest.approx(abs(0.5 - (1 + 0.3) / 2), rel=1e-4)
