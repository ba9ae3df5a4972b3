"""The networks of ASC-Net: parameter counts from the layer list, shapes, the overlap of two cuts."""

import math

import pytest
import torch
from uasbench.methods.nets.asc_nets import CutNet, Discriminator, disjointness, regularised

WIDTHS = (32, 64, 128, 256, 512)


def conv(i, o, k):
    return k * k * i * o + o


def block(i, o):
    return conv(i, o, 3) + 2 * o + conv(o, o, 3) + 2 * o  # each convolution is followed by scale and shift


def main_module_count():
    encoder = sum(block(i, o) for i, o in zip((1, *WIDTHS[:-1]), WIDTHS, strict=True))
    steps = [(512, 256), (256, 128), (128, 64), (64, 32)]
    decoder = sum(conv(i, o, 2) + block(2 * o, o) for i, o in steps) + conv(32, 1, 1)
    return encoder + 2 * decoder + conv(2, 1, 1)


def discriminator_count():
    widths = (32, 64, 128, 256, 256)
    body = sum(block(i, o) for i, o in zip((1, *widths[:-1]), widths, strict=True))
    return body + 256 * 16 * 16 + 1


def test_both_networks_have_the_parameters_of_the_layer_list():
    with torch.device("meta"):
        nets = CutNet(), Discriminator(256)
    assert [sum(p.numel() for p in n.parameters()) for n in nets] == [main_module_count(), discriminator_count()]


def test_cuts_and_reconstruction_have_the_size_of_the_image():
    net = CutNet(base=2)
    outputs = net(torch.rand(2, 1, 32, 48))
    assert [tuple(x.shape) for x in outputs] == [(2, 1, 32, 48)] * 3
    assert all(0 <= float(x.detach().min()) <= float(x.detach().max()) <= 1 for x in outputs)
    with pytest.raises(ValueError, match="multiples of 16"):
        net(torch.rand(1, 1, 40, 32))


def test_reconstruction_joins_the_two_cuts_pixel_by_pixel():
    net = CutNet(base=2).eval()
    with torch.no_grad():
        cut, rest, rebuilt = net(torch.rand(1, 1, 32, 32))
        (a, b), c = net.join.weight.flatten(), net.join.bias
        assert torch.allclose(rebuilt, torch.sigmoid(a * cut + b * rest + c), atol=1e-6)


def test_discriminator_answers_between_the_two_labels():
    verdict = Discriminator(32, base=2)(torch.rand(3, 1, 32, 32)).detach()
    assert verdict.shape == (3,)
    assert verdict.abs().max() <= 1


def test_dropout_follows_every_pooling_and_every_skip_but_the_finest():
    net = CutNet(base=2, dropout=0.3)
    assert net.drop.p == 0.3
    for decoder in (net.reference, net.rest):
        assert [d.p for d in decoder.drop] == [0.3, 0.3, 0.3, 0.0]


def test_the_penalty_holds_the_3x3_kernels_alone():
    held = regularised(CutNet(base=2))
    assert len(held) == 2 * (5 + 4 + 4)
    assert all(w.shape[-2:] == (3, 3) for w in held)
    assert len(regularised(Discriminator(32, base=2))) == 10


def test_disjointness_is_the_dice_overlap():
    a, b = torch.tensor([0.5, 0.0, 1.0]), torch.tensor([1.0, 0.5, 0.0])
    assert math.isclose(float(disjointness(a, b)), (2 * 0.5 + 1) / (1.5 + 1.5 + 1))
    assert float(disjointness(torch.ones(9), torch.zeros(9))) == pytest.approx(1 / 10)
    assert float(disjointness(torch.ones(9), torch.ones(9))) == 1


def test_only_the_binarised_overlap_has_no_gradient():
    gradients = {}
    for kind in ("soft", "binarised"):
        a = torch.full((1, 1, 4, 4), 0.3, requires_grad=True)
        overlap = disjointness(a, torch.sigmoid(torch.randn(1, 1, 4, 4)), kind)
        gradients[kind] = (
            float(torch.autograd.grad(overlap, a)[0].abs().sum()) if overlap.requires_grad else 0.0,
            float(overlap.detach()),
        )
    assert gradients["binarised"] == (0.0, 1.0)
    assert gradients["soft"][0] > 0
