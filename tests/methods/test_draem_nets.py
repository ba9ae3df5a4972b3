"""DRAEM's networks: parameter counts from the layer list, also of whole methods, initialisation, shapes."""

import itertools

import pytest
import torch
from torch import nn
from uasbench.benchmark.catalogue.showing import count_parameters
from uasbench.methods.config import resolve
from uasbench.methods.nets.unets import DiscriminativeUNet, RestorationAE
from uasbench.methods.pseudo_anomaly.draem import DRAEM
from uasbench.methods.pseudo_anomaly.two_stage import TwoStage


def conv(i, o):
    return 9 * i * o + o


def conv_norm(i, o):
    return conv(i, o) + 2 * o


def chain(*widths):
    return sum(conv_norm(i, o) for i, o in itertools.pairwise(widths))


def restoration_count(b):
    """Encoder levels b, 2b, 4b, 8b, 8b; decoder: enlarge, one convolution, then two; 3×3 head."""
    down = chain(1, b, b) + chain(b, 2 * b, 2 * b) + chain(2 * b, 4 * b, 4 * b)
    down += chain(4 * b, 8 * b, 8 * b) + chain(8 * b, 8 * b, 8 * b)
    up = chain(8 * b, 8 * b) + chain(8 * b, 8 * b, 4 * b) + chain(4 * b, 4 * b) + chain(4 * b, 4 * b, 2 * b)
    up += chain(2 * b, 2 * b) + chain(2 * b, 2 * b, b) + chain(b, b) + chain(b, b, b)
    return down + up + conv(b, 1)


def segmentation_count(b):
    """Encoder levels b, 2b, 4b, 8b, 8b, 8b; decoder: enlarge, one convolution, concatenate, two; 3×3 head."""
    down = chain(2, b, b) + chain(b, 2 * b, 2 * b) + chain(2 * b, 4 * b, 4 * b)
    down += chain(4 * b, 8 * b, 8 * b) + 2 * chain(8 * b, 8 * b, 8 * b)
    up = chain(8 * b, 8 * b) + chain(16 * b, 8 * b, 8 * b)
    up += chain(8 * b, 4 * b) + chain(12 * b, 4 * b, 4 * b)
    up += chain(4 * b, 2 * b) + chain(6 * b, 2 * b, 2 * b)
    up += chain(2 * b, b) + chain(3 * b, b, b)
    up += chain(b, b) + chain(2 * b, b, b)
    return down + up + conv(b, 2)


@pytest.mark.parametrize("base", [4, 128])
def test_restoration_parameters(base):
    with torch.device("meta"):
        net = RestorationAE(base=base)
    assert sum(p.numel() for p in net.parameters()) == restoration_count(base)


@pytest.mark.parametrize("base", [4, 64])
def test_segmentation_parameters(base):
    with torch.device("meta"):
        net = DiscriminativeUNet(base=base)
    assert sum(p.numel() for p in net.parameters()) == segmentation_count(base)


def unet_count(b):
    """Levels b, 2b, 4b, 8b of two convolutions with group norm; 2×2 transposed convolutions up; 1×1 head."""
    down = chain(1, b, b) + chain(b, 2 * b, 2 * b) + chain(2 * b, 4 * b, 4 * b) + chain(4 * b, 8 * b, 8 * b)
    enlarge = sum(4 * i * o + o for i, o in ((8 * b, 4 * b), (4 * b, 2 * b), (2 * b, b)))
    up = chain(8 * b, 4 * b, 4 * b) + chain(4 * b, 2 * b, 2 * b) + chain(2 * b, b, b)
    return down + enlarge + up + b + 1


@pytest.mark.parametrize(
    ("method", "restoration", "total"),
    [(DRAEM, restoration_count(128), 97_415_811), (TwoStage, unet_count(64), 36_073_667)],
)
def test_parameters_of_both_networks_of_the_paper_profiles(method, restoration, total):
    assert restoration + segmentation_count(64) == total
    assert count_parameters(method, resolve(method.Config, "paper")) == total


@pytest.mark.parametrize(("net", "channels"), [(RestorationAE(base=4), (1, 1)), (DiscriminativeUNet(base=4), (2, 2))])
def test_shapes(net, channels):
    assert net(torch.rand(2, channels[0], 64, 96)).shape == (2, channels[1], 64, 96)
    with pytest.raises(ValueError, match="multiples"):
        net(torch.rand(1, channels[0], 60, 64))


def test_restoration_has_no_skips():
    """Whatever enters must pass the bottleneck: silencing the deepest level makes the output constant in the input."""
    net = RestorationAE(base=4).eval()
    with torch.no_grad():
        for p in net.down[-1].parameters():
            p.zero_()
        a, b = net(torch.rand(1, 1, 32, 32)), net(torch.rand(1, 1, 32, 32))
    assert torch.equal(a, b)


@pytest.mark.parametrize(("base", "std"), [(64, 0.02), (16, 0.04)])
def test_initialisation_is_the_published_one_and_wider_for_narrower_nets(base, std):
    torch.manual_seed(0)
    net = DiscriminativeUNet(base=base)
    convolutions = torch.cat([m.weight.flatten() for m in net.modules() if isinstance(m, nn.Conv2d)])
    norms = torch.cat([m.weight for m in net.modules() if isinstance(m, nn.BatchNorm2d)])
    assert abs(convolutions.std() - std) < 1e-3
    assert abs(convolutions.mean()) < 1e-3
    assert abs(norms.mean() - 1) < 0.01
    assert abs(norms.std() - 0.02) < 0.005
