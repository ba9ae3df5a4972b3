"""f-AnoGAN's networks: parameters from the layer list, shapes, norms, initial weights."""

import math

import pytest
import torch
from torch import nn
from uasbench.methods.nets.anogan_nets import Critic, Encoder, Generator, ResBlock, layer_norm, widths


def block(i, o, between):
    """Two norms, 3×3 without bias, 3×3 with bias, 1×1 with bias."""
    return 2 * i + 9 * i * between + 2 * between + 9 * between * o + o + i * o + o


def generator_count(z, d):
    """Dense to 4·4·8d; 8d → 8d → 4d → 2d → d, doubling; norm, 3×3 to one channel."""
    up = block(8 * d, 8 * d, 8 * d) + block(8 * d, 4 * d, 4 * d) + block(4 * d, 2 * d, 2 * d) + block(2 * d, d, d)
    return (z + 1) * 16 * 8 * d + up + 2 * d + 9 * d + 1


def trunk_count(d):
    """3×3 to d; d → 2d → 4d → 8d → 8d, halving."""
    down = block(d, 2 * d, d) + block(2 * d, 4 * d, 2 * d) + block(4 * d, 8 * d, 4 * d) + block(8 * d, 8 * d, 8 * d)
    return 9 * d + d + down


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("z", "dim"), [(128, 64), (8, 4)])
def test_parameter_counts_follow_the_layer_list(z, dim):
    with torch.device("meta"):
        generator, critic, encoder = Generator(64, z, dim), Critic(64, dim), Encoder(64, z, dim)
    assert count(generator) == generator_count(z, dim)
    assert count(critic) == trunk_count(dim) + 16 * 8 * dim + 1
    assert count(encoder) == trunk_count(dim) + z * (16 * 8 * dim + 1)


def test_widths_stop_at_eight_times_the_first():
    assert widths(64, 64) == [64, 128, 256, 512, 512]
    assert widths(16, 4) == [4, 8, 16]
    for size in (48, 4, 0):
        with pytest.raises(ValueError, match="these networks need"):
            widths(size, 8)


@pytest.mark.parametrize("size", [16, 64])
def test_shapes_and_ranges(size):
    torch.manual_seed(0)
    x, z = torch.rand(3, 1, size, size) * 2 - 1, torch.randn(3, 5)
    made = Generator(size, 5, 4)(z)
    assert made.shape == x.shape
    assert made.abs().max() <= 1
    critic = Critic(size, 4)
    assert critic(x).shape == (3,)
    assert critic.features(x).shape == (3, critic.dense.in_features)
    assert torch.equal(critic.dense(critic.features(x))[:, 0], critic(x))
    code = Encoder(size, 5, 4)(x)
    assert code.shape == (3, 5)
    assert code.abs().max() < 1


def test_the_critic_judges_images_one_by_one():
    """The gradient penalty is a penalty per image, so no norm may mix the batch."""
    torch.manual_seed(0)
    critic, x = Critic(16, 4).train(), torch.rand(4, 1, 16, 16)
    assert torch.allclose(critic(x)[1:2], critic(x[1:2]), atol=1e-6)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in critic.modules())
    assert not any(
        isinstance(m, nn.GroupNorm) for net in (Generator(16, 5, 4), Encoder(16, 5, 4)) for m in net.modules()
    )


def test_layer_norm_is_over_channels_and_pixels():
    x = torch.randn(3, 4, 5, 6) * 3 + 2
    expected = torch.nn.functional.layer_norm(x, x.shape[1:])
    assert torch.allclose(layer_norm(4)(x), expected, atol=1e-5)
    assert [p.numel() for p in layer_norm(4).parameters()] == [4, 4]


@pytest.mark.parametrize(("how", "side"), [("down", 4), ("up", 16)])
def test_a_block_with_a_silent_branch_is_its_shortcut(how, side):
    layer = ResBlock(3, 5, nn.BatchNorm2d, how).eval()
    nn.init.zeros_(layer.conv2.weight)
    nn.init.zeros_(layer.conv2.bias)
    x = torch.randn(2, 3, 8, 8)
    resized = torch.nn.functional.interpolate(x, size=(side, side), mode="area" if how == "down" else "nearest")
    assert torch.allclose(layer(x), layer.shortcut(resized), atol=1e-5)


def test_block_widths():
    down, up = ResBlock(4, 8, nn.BatchNorm2d, "down"), ResBlock(8, 4, nn.BatchNorm2d, "up")
    assert (down.conv1.out_channels, up.conv1.out_channels) == (4, 4)
    assert down.conv1.bias is None
    assert up.conv1.bias is None
    assert all(c.bias is not None for b in (down, up) for c in (b.conv2, b.shortcut))


def test_initial_weights():
    torch.manual_seed(0)
    critic = Critic(16, 32)
    block_ = critic.trunk[2]
    assert isinstance(block_, ResBlock)
    for layer, gain in ((block_.conv1, 4), (block_.conv2, 4), (block_.shortcut, 2)):
        kernel = math.prod(layer.kernel_size)
        fans = kernel * (layer.in_channels + layer.out_channels)
        assert layer.weight.var().item() == pytest.approx(gain / fans, rel=0.05)
    assert critic.trunk[0].weight.var().item() == pytest.approx(2 / (9 * 33), rel=0.2)
    assert not critic.dense.bias.any()
