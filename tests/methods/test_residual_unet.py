"""MONAI's residual U-Net in two and three dimensions against its layer list."""

from itertools import pairwise

import pytest
import torch
from uasbench.methods.nets.unets import residual_unet


def parameters(channels: tuple[int, ...], units: int, dims: int) -> int:
    """Count: a halving residual unit per level but the last, which keeps its size; then up and one unit per level.

    A unit has convolutions of 3 voxels with bias, each with one PReLU slope (the last of the net without), and a
    shortcut of 3 voxels where it halves, of 1 where only the width changes. Instance normalisation has no parameters.
    """

    def conv(inputs: int, outputs: int, side: int = 3) -> int:
        return inputs * outputs * side**dims + outputs

    def unit(inputs: int, outputs: int, convolutions: int, *, halves: bool = False, plain_end: bool = False) -> int:
        total = conv(inputs, outputs) + (convolutions - 1) * conv(outputs, outputs) + convolutions - plain_end
        return total + (conv(inputs, outputs, 3 if halves else 1) if halves or inputs != outputs else 0)

    *down, last = pairwise([1, *channels])
    total = sum(unit(*widths, units, halves=True) for widths in down) + unit(*last, units)
    outputs = [2, *channels[:-2]]
    for level, out in enumerate(outputs):
        below = channels[-1] if level == len(channels) - 2 else channels[level]
        total += conv(channels[level] + below, out) + 1 + unit(out, out, 1, plain_end=level == 0)
    return total


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("channels", [(32, 64, 128, 256, 512), (16, 32, 64, 128, 256), (8, 16, 32), (4, 8)])
def test_parameters_follow_from_the_layer_list(channels, dims):
    with torch.device("meta"):
        net = residual_unet(channels, 2, dims=dims)
    assert sum(p.numel() for p in net.parameters()) == parameters(channels, 2, dims)
