"""The weight-standardised U-Net against the published layer list."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from uasbench.methods.nets.layers import chain
from uasbench.methods.nets.unets import WeightStandardisedConv2d, WeightStandardisedUNet, group_count, standardised_unit


def expected_parameters(channels_in: int, channels_out: int, widths: list[int]) -> int:
    """Count from the layer list: conv 3×3 + bias and group norm twice per block, transposed conv 2×2, conv 1×1."""

    def block(i: int, o: int) -> int:
        return (9 * i * o + o + 2 * o) + (9 * o * o + o + 2 * o)

    down = sum(block(i, o) for i, o in zip([channels_in, *widths], widths, strict=False))
    up = sum(4 * wide * narrow + narrow + block(2 * narrow, narrow) for narrow, wide in pairwise(widths))
    return down + up + widths[0] * channels_out + channels_out


@pytest.mark.parametrize(
    ("arguments", "widths"),
    [
        ({}, [64, 128, 256, 512]),
        ({"wf": 4, "depth": 3}, [16, 32, 64]),
        ({"in_channels": 4, "out_channels": 2, "wf": 3, "depth": 2}, [8, 16]),
    ],
)
def test_parameter_count_follows_the_layer_list(arguments, widths):
    net = WeightStandardisedUNet(**arguments)
    expected = expected_parameters(arguments.get("in_channels", 1), arguments.get("out_channels", 1), widths)
    assert sum(p.numel() for p in net.parameters()) == expected


def test_groups_are_the_middle_divisor():
    assert [group_count(c) for c in (64, 128, 256, 512)] == [8, 16, 16, 32]
    norms = [m for m in WeightStandardisedUNet().down.modules() if isinstance(m, nn.GroupNorm)]
    assert [n.num_groups for n in norms] == [8, 8, 16, 16, 16, 16, 32, 32]


def test_block_order_is_convolution_activation_norm_with_reflecting_border_and_bias():
    block = chain(standardised_unit, 2, 8, 8)
    assert [type(m) for m in block] == [WeightStandardisedConv2d, nn.SiLU, nn.GroupNorm] * 2
    for conv in (m for m in block if isinstance(m, nn.Conv2d)):
        assert conv.padding_mode == "reflect"
        assert conv.bias is not None
        assert conv.kernel_size == (3, 3)


def test_filters_are_standardised():
    conv = WeightStandardisedConv2d(4, 6, 3)
    weight = conv.standardised_weight().flatten(1)
    assert torch.allclose(weight.mean(1), torch.zeros(6), atol=1e-6)
    assert torch.allclose(weight.std(1), torch.ones(6), atol=1e-3)


def test_output_ignores_scale_and_offset_of_the_filters():
    conv = WeightStandardisedConv2d(3, 5, 3, padding=1, padding_mode="reflect")
    x = torch.rand((1, 3, 9, 9), generator=torch.Generator().manual_seed(0))
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(7).add_(2)
    assert torch.allclose(conv(x), before, atol=1e-3)


def test_a_constant_image_stays_constant_through_the_reflecting_border():
    block = chain(standardised_unit, 1, 8, 8)
    assert block(torch.full((1, 1, 12, 12), 0.7)).std(dim=(2, 3)).max() < 1e-4


def test_there_are_no_running_statistics_and_modes_agree():
    net = WeightStandardisedUNet(wf=2, depth=3)
    assert not list(net.buffers())
    x = torch.rand((2, 1, 16, 24), generator=torch.Generator().manual_seed(1))
    assert torch.equal(net.train()(x), net.eval()(x))
    assert net(x).shape == x.shape


@pytest.mark.parametrize("size", [20, 8])
def test_sizes_that_cannot_be_halved_are_refused(size):
    with pytest.raises(ValueError, match="multiples of 8"):
        WeightStandardisedUNet(wf=2)(torch.zeros((1, 1, size, size)))


def test_every_parameter_learns():
    net = WeightStandardisedUNet(wf=2, depth=3)
    x = torch.rand((2, 1, 16, 16), generator=torch.Generator().manual_seed(3))
    (net(x) - x).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
