"""The noise-predicting U-Net: parameters from the layer list, attention, time, shapes, initial state."""

import math

import pytest
import torch
from torch import nn
from uasbench.benchmark.catalogue.showing import count_parameters
from uasbench.methods.config import resolve
from uasbench.methods.diffusion.anoddpm import AnoDDPM
from uasbench.methods.nets.diffusion_unet import DiffusionUNet, ResBlock, SelfAttention, TimeEmbedding, group_norm


def small(**values) -> DiffusionUNet:
    torch.manual_seed(0)
    arguments = {"size": 16, "base": 8, "multipliers": (1, 2), "blocks": 1, "attention": (8,), "heads": 2}
    return DiffusionUNet(**{**arguments, **values})


def awake(net: DiffusionUNet) -> DiffusionUNet:
    """Replace the zeros at the end of every branch."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            if not p.any():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
    return net


def conv(i, o, k=3):
    return k * k * i * o + o


def block(i, o, time):
    """Norm, conv, dense of the time, norm, conv, and a 1×1 shortcut where the width changes."""
    return 2 * i + conv(i, o) + time * o + o + 2 * o + conv(o, o) + (conv(i, o, 1) if i != o else 0)


def attention(c):
    return 2 * c + conv(c, 3 * c, 1) + conv(c, c, 1)


def expected(size, base, multipliers, blocks, sides):
    """Walk the published layer list: stem, levels down, middle, levels up, head."""
    time = 4 * base
    total = base * time + time + time * time + time + conv(1, base)
    c, skips = base, [base]
    for i, m in enumerate(multipliers):
        for _ in range(blocks):
            total += block(c, base * m, time) + (attention(base * m) if size // 2**i in sides else 0)
            c = base * m
            skips.append(c)
        if i + 1 < len(multipliers):
            total += block(c, c, time)
            skips.append(c)
    total += 2 * block(c, c, time) + attention(c)
    for i in range(len(multipliers) - 1, -1, -1):
        for _ in range(blocks + 1):
            total += block(c + skips.pop(), base * multipliers[i], time)
            c = base * multipliers[i]
            total += attention(c) if size // 2**i in sides else 0
        total += block(c, c, time) if i else 0
    assert not skips
    return total + 2 * c + conv(c, 1)


@pytest.mark.parametrize(
    ("size", "base", "multipliers", "blocks", "sides"),
    [
        (256, 128, (1, 1, 2, 2, 4, 4), 2, (16, 8)),
        (64, 16, (1, 2, 3, 4), 2, (32, 16, 8)),
        (32, 8, (1, 2), 1, ()),
    ],
)
def test_parameter_count_follows_the_layer_list(size, base, multipliers, blocks, sides):
    with torch.device("meta"):
        net = DiffusionUNet(size, base, multipliers, blocks, sides)
    assert sum(p.numel() for p in net.parameters()) == expected(size, base, multipliers, blocks, sides)


def test_the_paper_profile_has_the_published_net():
    config = resolve(AnoDDPM.Config, "paper")
    assert count_parameters(AnoDDPM, config) == expected(256, 128, (1, 1, 2, 2, 4, 4), 2, (16, 8))
    method = AnoDDPM(config)
    with torch.device("meta"):
        method.build()
    attentions = [m for m in method.net.modules() if isinstance(m, SelfAttention)]
    assert len(attentions) == 2 * 2 + 1 + 2 * 3  # two levels down, the middle, two levels up
    assert {a.heads for a in attentions} == {2}
    assert {m.num_groups for m in method.net.modules() if isinstance(m, nn.GroupNorm)} == {32}


def test_untrained_it_predicts_no_noise():
    assert not small()(torch.rand(2, 1, 16, 16), torch.tensor([3, 900])).any()


def test_narrow_nets_keep_the_time():
    """One channel per group would normalise away the shift that carries t."""
    assert [group_norm(c).num_groups for c in (4, 8, 16, 24, 128, 384, 1024)] == [1, 2, 4, 2, 32, 32, 32]
    net = awake(small())
    x = torch.rand(1, 1, 16, 16)
    assert (net(x, torch.tensor([1])) - net(x, torch.tensor([700]))).abs().max() > 1e-3


def test_time_embedding_is_sines_and_cosines():
    embedding = TimeEmbedding(8)
    embedding.dense = nn.Sequential()
    found = embedding(torch.tensor([0, 7]))
    assert torch.equal(found[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    for i in range(4):
        phase = 7 / 10_000 ** (i / 4)
        assert found[1, i].item() == pytest.approx(math.sin(phase), abs=1e-5)
        assert found[1, 4 + i].item() == pytest.approx(math.cos(phase), abs=1e-5)


def test_attention_equals_torch_multihead_attention():
    torch.manual_seed(0)
    layer, channels = SelfAttention(8, 2), 8
    nn.init.normal_(layer.out.weight)
    nn.init.normal_(layer.out.bias)
    reference = nn.MultiheadAttention(channels, 2, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(layer.to_qkv.weight[:, :, 0, 0])
        reference.in_proj_bias.copy_(layer.to_qkv.bias)
        reference.out_proj.weight.copy_(layer.out.weight[:, :, 0, 0])
        reference.out_proj.bias.copy_(layer.out.bias)
    x = torch.randn(2, channels, 4, 6)
    tokens = layer.norm(x).flatten(2).transpose(1, 2)
    expected_out = x + reference(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
    assert torch.allclose(layer(x, torch.empty(0)), expected_out, atol=1e-5)


@pytest.mark.parametrize(("how", "side"), [(None, 8), ("down", 4), ("up", 16)])
def test_blocks_change_the_size(how, side):
    block_ = ResBlock(4, 12, 16, how)
    assert block_(torch.rand(3, 4, 8, 8), torch.rand(3, 16)).shape == (3, 12, side, side)


def test_shapes_and_sizes_that_cannot_be_halved():
    assert small()(torch.rand(3, 1, 16, 16), torch.zeros(3, dtype=torch.long)).shape == (3, 1, 16, 16)
    with pytest.raises(ValueError, match="multiple of 8"):
        small(size=20, multipliers=(1, 1, 1, 1))


def test_images_in_a_batch_do_not_meet_and_modes_agree():
    net = awake(small())
    x, t = torch.rand(3, 1, 16, 16), torch.tensor([5, 50, 500])
    assert torch.allclose(net(x, t)[1:2], net(x[1:2], t[1:2]), atol=1e-5)
    assert torch.equal(net.train()(x, t), net.eval()(x, t))
    assert not list(net.buffers())


def test_every_parameter_learns():
    net = awake(small())
    net(torch.rand(2, 1, 16, 16), torch.tensor([5, 50])).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
