"""The 3D U-Net with three heads: its size, its shapes and its normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from uasbench.methods.nets.layer_unet import LayerUNet

CICEK = 19_069_955  # printed by Çiçek et al. 2016 for three channels in and three classes out, without normalisation


def expected(channels: tuple[int, ...], inputs: int, heads: int = 3) -> tuple[int, int]:
    """Weights of the convolutions and of the normalisations, from the layer list."""

    def conv(i: int, o: int) -> int:
        return 27 * i * o + o

    convolutions, norms, before = 0, 0, inputs
    for width in channels:
        convolutions += conv(before, width // 2) + conv(width // 2, width)
        norms += 2 * (width // 2 + width)
        before = width
    for low, high in zip(channels[:0:-1], channels[-2::-1], strict=True):
        convolutions += 8 * low * low + conv(low + high, high) + conv(high, high)
        norms += 4 * high
    return convolutions + heads * (channels[0] + 1), norms


@pytest.mark.parametrize(("channels", "inputs"), [((64, 128, 256, 512), 1), ((8, 16, 32), 1), ((4, 8), 2)])
def test_parameters_follow_from_the_layer_list(channels, inputs):
    net = LayerUNet(channels, inputs)
    assert sum(p.numel() for p in net.parameters()) == sum(expected(channels, inputs))


def test_convolutions_are_those_of_the_3d_unet_paper():
    net = LayerUNet((64, 128, 256, 512), inputs=3)
    norms = sum(p.numel() for m in net.modules() if isinstance(m, nn.BatchNorm3d) for p in m.parameters())
    assert sum(p.numel() for p in net.parameters()) - norms == CICEK == expected((64, 128, 256, 512), 3)[0]


def test_heads_have_the_shape_of_the_input_and_weights_of_their_own():
    net = LayerUNet((4, 8, 16))
    outputs = net(torch.randn(2, 1, 8, 12, 16))
    assert [o.shape for o in outputs] == [(2, 1, 8, 12, 16)] * 3
    outputs[2].sum().backward()
    assert net.mask.weight.grad is not None
    assert net.normal.weight.grad is None
    assert net.lesion.weight.grad is None


def test_statistics_are_those_of_the_batch_at_test_too():
    torch.manual_seed(0)
    net = LayerUNet((4, 8)).eval()
    x = torch.randn(2, 1, 4, 8, 8)
    x[1] *= 5
    assert not list(net.buffers()), "running statistics would be used at test"
    with torch.inference_mode():
        together, alone = net(x)[2][:1], net(x[:1])[2]
        trained = net.train()(x)[2][:1]
    assert not torch.allclose(together, alone)
    assert torch.equal(together, trained)
