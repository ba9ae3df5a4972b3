"""The unified trunk against the published layer list."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from uasbench.methods.nets.baur import Affine2d, BaurAE, stage_count


def expected_parameters(size: int, z: int, width: int = 32) -> int:
    """Count from the layer list: 5×5 stages with bias and two numbers of normalisation per channel, 1×1 and dense."""
    stages = {16: 1, 32: 2, 64: 3, 128: 4}[size]
    down = [min(4 * width, width * 2**i) for i in range(stages)]
    up = [max(width, 4 * width // 2**i) for i in range(stages)]
    total, channels = 0, 1
    for wider in down:
        total += 25 * channels * wider + wider + 2 * wider
        channels = wider
    code, flat = channels // 8, channels // 8 * 64
    total += channels * code + code + flat * z + z + z * flat + flat + code * channels + channels
    total += 2 * channels
    for narrower in up:
        total += 25 * channels * narrower + narrower + 2 * narrower
        channels = narrower
    return total + channels + 1


@pytest.mark.parametrize(("size", "z", "width"), [(128, 128, 32), (64, 128, 32), (64, 32, 8), (16, 8, 32)])
@pytest.mark.parametrize("norm", ["batch", "affine"])
def test_parameter_count_follows_the_layer_list(size, z, width, norm):
    net = BaurAE(size, z, norm, width=width)
    assert sum(p.numel() for p in net.parameters()) == expected_parameters(size, z, width)


def test_published_widths_and_bottleneck():
    net = BaurAE(128, 128)
    assert [m.out_channels for m in net.encoder if isinstance(m, nn.Conv2d)] == [32, 64, 128, 128]
    assert [m.out_channels for m in net.decoder if isinstance(m, nn.ConvTranspose2d)] == [128, 64, 32, 32]
    assert net.encoder(torch.zeros(2, 1, 128, 128)).shape == (2, 128, 8, 8)
    assert (net.bottleneck.to_z.in_features, net.bottleneck.to_z.out_features) == (1024, 128)
    assert (net.bottleneck.from_z.in_features, net.bottleneck.from_z.out_features) == (128, 1024)
    assert {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)} == {0.3}
    assert [type(m) for m in net.decoder][:2] == [nn.BatchNorm2d, nn.ReLU]


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_output_has_the_shape_of_the_input(size):
    assert BaurAE(size, 8, width=8)(torch.zeros(2, 1, size, size)).shape == (2, 1, size, size)


@pytest.mark.parametrize("size", [0, 8, 48, 100])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"size={size}"):
        stage_count(size)


def test_affine_is_batch_norm_with_fixed_statistics():
    x = torch.rand((2, 4, 5, 5), generator=torch.Generator().manual_seed(0))
    affine, norm = Affine2d(4), nn.BatchNorm2d(4, eps=0.0).eval()
    for module in (affine, norm):
        nn.init.constant_(module.weight, 1.5)
        nn.init.constant_(module.bias, -0.5)
    assert torch.allclose(affine(x), norm(x), atol=1e-6)


def test_affine_trunk_has_no_running_statistics():
    assert not list(BaurAE(32, 8, "affine", width=8).buffers())
    assert list(BaurAE(32, 8, "batch", width=8).buffers())


def test_output_is_not_squashed():
    net = BaurAE(32, 8, "affine", width=8)
    with torch.no_grad():
        net.decoder[-1].bias.fill_(7)
    assert net(torch.zeros(1, 1, 32, 32)).mean() > 2


def test_every_parameter_learns():
    net = BaurAE(32, 16, "batch", 0.0, width=8)
    x = torch.rand((4, 1, 32, 32), generator=torch.Generator().manual_seed(1))
    (net(x) - x).square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
