"""The wide residual encoder-decoder: parameters, shapes, layout."""

import pytest
import torch
from uasbench.methods.nets.unets import WideBlock, WideResidualNet


def block(i, o, changes):
    return 2 * i + 9 * i * o + 2 * o + 9 * o * o + (i * o if changes else 0)


def group(i, o, blocks, changes=True):
    return block(i, o, changes) + (blocks - 1) * block(o, o, False)


def parameters(depth, k):
    """Written from the layer list: 16 → 16k, 32k, 64k → 32k, 16k → 1; no biases but the last."""
    blocks = (depth - 4) // 6
    a, b, c = 16 * k, 32 * k, 64 * k
    encoder = 9 * 16 + group(16, a, blocks, a != 16) + group(a, b, blocks) + group(b, c, blocks)
    decoder = group(c, b, blocks) + group(b, a, blocks)
    return encoder + decoder + 2 * a + a + 1


@pytest.mark.parametrize(("depth", "widen"), [(16, 4), (10, 1), (22, 2)])
def test_parameters_follow_the_layer_list(depth, widen):
    net = WideResidualNet(depth, widen)
    assert sum(p.numel() for p in net.parameters()) == parameters(depth, widen)


def test_encoder_is_wrn_16_4():
    # Zagoruyko and Komodakis 2016 print 2.7 million weights for WRN-16-4 with three channels and ten classes.
    net = WideResidualNet(16, 4, in_channels=3)
    count = sum(p.numel() for p in [*net.stem.parameters(), *net.down.parameters()])
    assert count + 2 * 256 + 256 * 10 + 10 == pytest.approx(2.75e6, rel=0.01)
    assert sum(isinstance(m, WideBlock) for m in net.down.modules()) == 6


def test_shapes_and_refused_sizes():
    net = WideResidualNet(10, 1).eval()
    assert net(torch.rand(2, 1, 32, 20)).shape == (2, 1, 32, 20)
    with pytest.raises(ValueError, match="multiples of 4"):
        net(torch.rand(1, 1, 30, 32))
    with pytest.raises(ValueError, match="depth 19"):
        WideResidualNet(19)


def test_block_is_the_identity_plus_a_residual():
    x = torch.rand(2, 4, 8, 8)
    same = WideBlock(4, 4).eval()
    torch.nn.init.zeros_(same.conv2.weight)
    assert torch.equal(same(x), x)
    changed = WideBlock(4, 6, 2).eval()
    torch.nn.init.zeros_(changed.conv2.weight)
    activated = torch.relu(changed.norm1(x))
    assert torch.allclose(changed(x), torch.nn.functional.conv2d(activated, changed.shortcut.weight, stride=2))
    assert changed(x).shape == (2, 6, 4, 4)


def test_a_fresh_net_is_undecided():
    torch.manual_seed(0)
    logits = WideResidualNet(16, 4)(torch.rand(2, 1, 32, 32))
    assert logits.abs().max() < 20
    assert torch.isfinite(logits).all()
