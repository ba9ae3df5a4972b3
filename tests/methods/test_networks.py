"""The networks that are written here: parameters from the layer lists, shapes, first weights, what single layers do."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from uasbench.benchmark.catalogue.sizes import count_parameters
from uasbench.methods.config import PROFILES, resolve
from uasbench.methods.diffusion.anoddpm import AnoDDPM
from uasbench.methods.nets.anogan_nets import Critic, Generator, LatentEncoder, ResBlock, layer_norm, widths
from uasbench.methods.nets.asc_nets import CutNet, Discriminator
from uasbench.methods.nets.baur import BaurAE, BaurGMVAE, BaurVAE, kl
from uasbench.methods.nets.diffusion_unet import DiffusionUNet, SelfAttention, TimeEmbedding, group_norm
from uasbench.methods.nets.layers import chain, halvings
from uasbench.methods.nets.rd4ad import OneClassBottleneck, ReverseDecoder
from uasbench.methods.nets.unets import (
    DiscriminativeUNet,
    LayerUNet,
    RestorationAE,
    WeightStandardisedConv2d,
    WeightStandardisedUNet,
    WideBlock,
    WideResidualNet,
    group_count,
    residual_unet,
    standardised_unit,
)
from uasbench.methods.normalcy.normnet import NormNet
from uasbench.methods.pseudo_anomaly.cutpaste import CutPaste
from uasbench.methods.pseudo_anomaly.draem import DRAEM
from uasbench.methods.pseudo_anomaly.layer_decomposition import LayerDecomposition
from uasbench.methods.pseudo_anomaly.synthetic_tumours import SyntheticTumours
from uasbench.methods.pseudo_anomaly.two_stage import TwoStage

SpatialVAE = partial(BaurVAE, spatial=True)
PAPER_DIFFUSION = (256, 128, (1, 1, 2, 2, 4, 4), 2, (16, 8))
# Sums over the published layer lists; the first line of a network has the widths of its paper.
PARAMETERS = [
    (BaurAE, (128, 128), 1_627_249),
    (BaurAE, (64, 32, "affine", 0.2, 8), 75_173),
    (BaurAE, (16, 8), 108_525),
    (BaurVAE, (128, 128), 1_758_449),
    (BaurVAE, (64, 32, "affine", 0.2, 8), 83_397),
    (SpatialVAE, (128, 128), 1_392_737),
    (SpatialVAE, (16, 8, "affine"), 27_553),
    (BaurGMVAE, (128, 128), 1_765_107),
    (partial(BaurGMVAE, width=8), (64, 16, 6, 2), 72_681),
    (WeightStandardisedUNet, (), 7_701_825),
    (WeightStandardisedUNet, (4, 2, 2, 3), 6_778),
    (RestorationAE, (), 69_043_969),
    (RestorationAE, (1, 1, 4), 68_473),
    (DiscriminativeUNet, (), 28_371_842),
    (DiscriminativeUNet, (2, 2, 4), 112_202),
    (residual_unet, ((16, 32, 64, 128, 256), 2, 3), 4_806_481),
    (residual_unet, ((32, 64, 128, 256, 512), 2, 2), 6_495_321),
    (residual_unet, ((4, 8), 2, 3), 4_073),
    (WideResidualNet, (16, 4), 4_164_763),
    (WideResidualNet, (19, 4), 5_640_859),
    (WideResidualNet, (26, 2), 2_028_315),
    (Generator, (64, 128, 64), 8_539_329),
    (Generator, (64, 8, 4), 34_269),
    (Critic, (64, 64), 7_490_689),
    (Critic, (64, 4), 30_169),
    (LatentEncoder, (64, 128, 64), 8_531_200),
    (LatentEncoder, (64, 8, 4), 33_760),
    (DiffusionUNet, PAPER_DIFFUSION, 130_331_393),
    (DiffusionUNet, (64, 16, (1, 2, 3, 4), 2, (32, 16, 8)), 1_526_513),
    (DiffusionUNet, (32, 8, (1, 2), 1, ()), 45_401),
    (CutNet, (), 10_815_205),
    (Discriminator, (256,), 2_420_321),
    (LayerUNet, ((64, 128, 256, 512), 1), 19_072_899),
    (LayerUNet, ((8, 16, 32), 1), 72_115),
    (LayerUNet, ((4, 8), 2), 3_953),
    (OneClassBottleneck, ((256, 512, 1024), 3), 58_885_120),
    (ReverseDecoder, ((256, 512, 1024), (3, 4, 6)), 24_917_504),
]


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("make", "arguments", "parameters"), PARAMETERS)
def test_parameters_follow_from_the_layer_list(make, arguments, parameters):
    with torch.device("meta"):
        assert count(make(*arguments)) == parameters


@pytest.mark.parametrize(
    ("method", "total"), [(DRAEM, 97_415_811), (TwoStage, 36_073_667), (AnoDDPM, 130_331_393), (CutPaste, 11_505_859)]
)
def test_parameters_of_paper_profiles(method, total):
    assert count_parameters(method, resolve(method.Config, "paper")) == total


@pytest.mark.parametrize(
    ("net", "fitting", "refused", "said"),
    [
        (RestorationAE(base=4), (1, 64, 96), (60, 64), "multiples of 16"),
        (DiscriminativeUNet(base=4), (2, 64, 96), (64, 48), "multiples of 32"),
        (WeightStandardisedUNet(wf=2), (1, 16, 24), (20, 20), "multiples of 8"),
        (WeightStandardisedUNet(wf=2), (1, 16, 16), (8, 8), "multiples of 8, at least 16"),
        (WideResidualNet(16, 1).eval(), (1, 32, 48), (40, 32), "multiples of 16"),
        (WideResidualNet(19, 1).eval(), (1, 32, 64), (48, 32), "multiples of 32"),
    ],
)
def test_images_keep_their_size_and_those_that_cannot_be_halved_are_refused(net, fitting, refused, said):
    assert net(torch.rand(2, *fitting)).shape == (2, *fitting)
    with pytest.raises(ValueError, match=said):
        net(torch.zeros(1, fitting[0], *refused))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("of", [NormNet, SyntheticTumours, LayerDecomposition])
def test_networks_of_volumes_take_the_crops_of_every_profile_with_channels_last(of, profile):
    config = resolve(of.Config, profile)
    crop = (config.depth, config.size, config.size) if of is NormNet else config.crop
    with torch.device("meta"):
        method = of(config)
        method.build()
        out = method.net(torch.empty(config.batch, 1, *crop))
    assert (out[2] if isinstance(out, tuple) else out).shape[2:] == crop
    kernels = [p for p in method.net.parameters() if p.dim() == 5 and min(p.shape[:2]) > 1 and p.shape[2] > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last_3d) for p in kernels)
    assert kernels


@pytest.mark.parametrize(
    ("make", "said"),
    [
        *((partial(halvings, size, 8), f"size={size}: these networks need 16, 32") for size in (0, 8, 48, 100)),
        (partial(BaurAE, 100), "size=100"),
        (partial(Generator, 48), "size=48: these networks need 8, 16"),
        *((partial(WideResidualNet, depth), f"depth {depth}") for depth in (6, 7, 18, 21)),
        (partial(DiffusionUNet, 20, 8, (1, 1, 1, 1)), "multiple of 8"),
    ],
)
def test_sizes_that_do_not_fit_the_layers_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def small_diffusion() -> DiffusionUNet:
    """A small diffusion network whose branches no longer end in zeros."""
    torch.manual_seed(0)
    net = DiffusionUNet(16, 8, (1, 2), 1, (8,), 2)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            if not p.any():
                p.copy_(torch.randn(p.shape, generator=draws) * 0.1)
    return net


def vae_loss(net: BaurVAE, x: torch.Tensor) -> torch.Tensor:
    reconstruction, mean, log_std = net(x, torch.Generator().manual_seed(8))
    return (reconstruction - x).square().mean() + kl(mean, log_std).mean()


@pytest.mark.parametrize(
    ("make", "loss"),
    [
        (partial(BaurAE, 32, 16, dropout=0.0, width=8), None),
        (partial(BaurVAE, 32, 16, dropout=0.0, width=8), vae_loss),
        (partial(SpatialVAE, 32, 16, dropout=0.0, width=8), vae_loss),
        (partial(WeightStandardisedUNet, wf=2, depth=3), None),
        (small_diffusion, lambda net, x: net(x[..., :16, :16], torch.tensor([5, 50, 7, 70])).square().mean()),
    ],
)
def test_every_parameter_learns(make, loss):
    net, x = make(), draw(4, 1, 32, 32, seed=7)
    (loss(net, x) if loss else (net(x) - x).square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize(
    ("net", "arguments"),
    [
        (WeightStandardisedUNet(wf=2, depth=3), ()),
        (small_diffusion(), (torch.tensor([5, 50, 500]),)),
        (Critic(16, 4), ()),
    ],
)
def test_networks_without_batch_statistics_treat_images_one_by_one(net, arguments):
    """The gradient penalty of a critic is one per image; a denoiser must not depend on what is scored beside."""
    x = draw(3, 1, 16, 16, seed=1)
    assert torch.equal(net.train()(x, *arguments), net.eval()(x, *arguments))
    assert torch.allclose(net(x, *arguments)[1:2], net(x[1:2], *(a[1:2] for a in arguments)), atol=1e-5)
    assert not list(net.buffers())


def test_standardised_blocks_are_convolution_activation_norm_in_groups_with_a_reflecting_border():
    assert [group_count(c) for c in (64, 128, 256, 512)] == [8, 16, 16, 32]
    norms = [m for m in WeightStandardisedUNet().down.modules() if isinstance(m, nn.GroupNorm)]
    assert [n.num_groups for n in norms] == [8, 8, 16, 16, 16, 16, 32, 32]
    block = chain(standardised_unit, 1, 8, 8)
    assert [type(m) for m in block] == [WeightStandardisedConv2d, nn.SiLU, nn.GroupNorm] * 2
    assert all(conv.bias is not None and conv.kernel_size == (3, 3) for conv in block[::3])
    assert block(torch.full((1, 1, 12, 12), 0.7)).std(dim=(2, 3)).max() < 1e-4


def test_filters_are_standardised_whatever_their_scale_and_offset():
    conv, x = WeightStandardisedConv2d(3, 5, 3, padding=1, padding_mode="reflect"), draw(1, 3, 9, 9)
    weight, before = conv.standardised_weight().flatten(1), conv(x)
    assert torch.allclose(weight.mean(1), torch.zeros(5), atol=1e-6)
    assert torch.allclose(weight.std(1), torch.ones(5), atol=1e-3)
    with torch.no_grad():
        conv.weight.mul_(7).add_(2)
    assert torch.allclose(conv(x), before, atol=1e-3)


def test_restoration_has_no_skips():
    """Whatever enters must pass the bottleneck: silencing the deepest level makes the output constant in the input."""
    net = RestorationAE(base=4).eval()
    with torch.no_grad():
        for p in net.down[-1].parameters():
            p.zero_()
        assert torch.equal(net(torch.rand(1, 1, 32, 32)), net(torch.rand(1, 1, 32, 32)))


@pytest.mark.parametrize(("base", "std"), [(64, 0.02), (16, 0.04)])
def test_first_weights_of_draem_are_the_published_ones_and_wider_for_narrower_nets(base, std):
    torch.manual_seed(0)
    net = DiscriminativeUNet(base=base)
    net.draw_as_draem()
    convolutions = torch.cat([m.weight.flatten() for m in net.modules() if isinstance(m, nn.Conv2d)])
    norms = torch.cat([m.weight for m in net.modules() if isinstance(m, nn.BatchNorm2d)])
    assert (convolutions.mean().item(), convolutions.std().item()) == pytest.approx((0, std), abs=1e-3)
    assert (norms.mean().item(), norms.std().item()) == pytest.approx((1, 0.02), abs=0.005)


@pytest.mark.parametrize(("depth", "sides"), [(16, [1, 2, 4, 8, 16]), (19, [1, 2, 4, 8, 16, 32])])
def test_stages_halve_the_grid_and_widen_and_a_fresh_net_is_undecided(depth, sides):
    torch.manual_seed(0)
    net, x, seen = WideResidualNet(depth, 2), torch.rand(2, 1, 64, 64), []
    for part in (*net.down, *net.up):
        part.register_forward_hook(lambda _, __, out: seen.append((out.shape[1], 64 // out.shape[2])))
    assert net(x).abs().max() < 20
    down = list(zip([32, 64, *[128] * (len(sides) - 2)], sides, strict=True))
    widths = [*[64] * (len(sides) - 4), 32, 16, 1]
    assert seen == down + list(zip(widths, sides[-2::-1], strict=True))


def test_a_wide_block_is_a_shortcut_plus_a_residual():
    x = torch.rand(2, 4, 8, 8)
    same, halved, changed = WideBlock(4, 4).eval(), WideBlock(4, 4, 2).eval(), WideBlock(4, 6, 2).eval()
    larger = WideBlock(4, 6, enlarge=True).eval()
    for block in (same, halved, changed, larger):
        nn.init.zeros_(block.conv2.weight)
    assert torch.equal(same(x), x)
    assert torch.equal(halved(x), functional.avg_pool2d(x, 2))
    activated = torch.relu(changed.norm1(x))
    assert torch.allclose(changed(x), functional.conv2d(activated, changed.shortcut.weight, stride=2))
    enlarged = functional.conv2d(activated, larger.shortcut.weight).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(larger(x), enlarged)


@pytest.mark.parametrize("size", [16, 64])
def test_shapes_and_ranges_of_the_adversarial_networks(size):
    torch.manual_seed(0)
    x, critic = draw(3, 1, size, size) * 2 - 1, Critic(size, 4)
    made, code = Generator(size, 5, 4)(torch.randn(3, 5)), LatentEncoder(size, 5, 4)(x)
    assert (made.shape, code.shape, critic(x).shape) == (x.shape, (3, 5), (3,))
    assert max(made.abs().max(), code.abs().max()) <= 1
    assert (widths(64, 64), widths(16, 4)) == ([64, 128, 256, 512, 512], [4, 8, 16])


def test_layer_norm_is_over_channels_and_pixels_and_in_the_critic_alone():
    x = torch.randn(3, 4, 5, 6) * 3 + 2
    assert torch.allclose(layer_norm(4)(x), functional.layer_norm(x, x.shape[1:]), atol=1e-5)
    assert [p.numel() for p in layer_norm(4).parameters()] == [4, 4]
    for net in (Generator(16, 5, 4), LatentEncoder(16, 5, 4)):
        assert not any(isinstance(m, nn.GroupNorm) for m in net.modules())


@pytest.mark.parametrize(("how", "side", "between"), [("down", 4, 3), ("up", 16, 5)])
def test_a_resizing_block_with_a_silent_branch_is_its_shortcut(how, side, between):
    layer = ResBlock(3, 5, nn.BatchNorm2d, how).eval()
    assert (layer.conv1.out_channels, layer.conv1.bias) == (between, None)
    nn.init.zeros_(layer.conv2.weight)
    nn.init.zeros_(layer.conv2.bias)
    x = torch.randn(2, 3, 8, 8)
    resized = functional.interpolate(x, size=(side, side), mode="area" if how == "down" else "nearest")
    assert torch.allclose(layer(x), layer.shortcut(resized), atol=1e-5)


def test_first_weights_of_the_critic():
    torch.manual_seed(0)
    critic = Critic(16, 32)
    block = critic.trunk[2]
    for layer, gain in ((block.conv1, 4), (block.conv2, 4), (block.shortcut, 2)):
        fans = math.prod(layer.kernel_size) * (layer.in_channels + layer.out_channels)
        assert layer.weight.var().item() == pytest.approx(gain / fans, rel=0.05)
    assert critic.trunk[0].weight.var().item() == pytest.approx(2 / (9 * 33), rel=0.2)
    assert not critic.dense.bias.any()


def test_the_diffusion_network_of_the_paper_has_its_heads_and_groups_and_starts_without_noise():
    with torch.device("meta"):
        net = DiffusionUNet(*PAPER_DIFFUSION)
    attentions = [m for m in net.modules() if isinstance(m, SelfAttention)]
    assert len(attentions) == 2 * 2 + 1 + 2 * 3  # two levels down, the middle, two levels up
    assert {a.heads for a in attentions} == {2}
    assert {m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)} == {32}
    assert not DiffusionUNet(16, 8, (1, 2), 1, (8,), 2)(torch.rand(2, 1, 16, 16), torch.tensor([3, 900])).any()


def test_narrow_nets_keep_the_time():
    """One channel per group would normalise away the shift that carries t."""
    assert [group_norm(c).num_groups for c in (4, 8, 16, 24, 128, 384, 1024)] == [1, 2, 4, 2, 32, 32, 32]
    net, x = small_diffusion(), torch.rand(1, 1, 16, 16)
    assert (net(x, torch.tensor([1])) - net(x, torch.tensor([700]))).abs().max() > 1e-3


def test_time_embedding_is_sines_and_cosines():
    embedding = TimeEmbedding(8)
    embedding.dense = nn.Sequential()
    found = embedding(torch.tensor([0, 7]))
    assert torch.equal(found[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    phases = [7 / 10_000 ** (i / 4) for i in range(4)]
    assert found[1].tolist() == pytest.approx([*map(math.sin, phases), *map(math.cos, phases)], abs=1e-5)


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
    expected = x + reference(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
    assert torch.allclose(layer(x, torch.empty(0)), expected, atol=1e-5)


def test_shapes_of_embedding_and_decoded_maps():
    maps = [torch.rand(2, c, s, s) for c, s in ((8, 16), (12, 8), (16, 4))]
    embedding = OneClassBottleneck((8, 12, 16), 2)(maps)
    assert embedding.shape == (2, 32, 2, 2)
    decoded = ReverseDecoder((8, 12, 16), (1, 2, 1))(embedding)
    assert [d.shape for d in decoded] == [m.shape for m in maps]
    assert all((d >= 0).all() for d in decoded)  # as the encoder's maps, they come from a ReLU
