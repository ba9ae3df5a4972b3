"""Dinomaly and Dinomaly2: networks, pairing, hard positions, recentring, the optimiser and its schedule."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.config import ConfigError, resolve
from uasbench.methods.features.dinomaly import Dinomaly, DinomalyConfig
from uasbench.methods.features.dinomaly2 import Dinomaly2, Dinomaly2Config
from uasbench.methods.features.parts.backbone import smooth
from uasbench.methods.features.parts.groups import group_loss, recentred
from uasbench.methods.nets.dinomaly_net import DecoderBlock, DinomalyNet, LinearAttention
from uasbench.methods.nets.layers import SeededDropout
from uasbench.methods.schedules import warm_cosine
from uasbench.methods.stable_adamw import StableAdamW
from uasbench.methods.training import as_input

TINY = {
    "backbone": "test_vit",
    "heads": 4,
    "size": 48,
    "blocks": (1, 2, 3, 4),
    "depth": 4,
}  # a class token, 16² patches
REGISTERS = {**TINY, "backbone": "test_vit2"}  # a register and no class token


@pytest.mark.parametrize(
    ("config", "bottleneck", "total"),
    [(DinomalyConfig, 4_722_432, 61_425_408), (Dinomaly2Config, 3_346_432, 60_049_408)],
)
def test_the_published_networks_have_the_weights_of_the_formula(config, bottleneck, total):
    c, d = resolve(config), 768
    with torch.device("meta"):
        net = DinomalyNet(d, c.heads, c.depth, c.dropout, c.narrow)
    entry = c.narrow or d
    narrow = 0 if c.narrow is None else d * c.narrow + c.narrow
    assert narrow + (entry * 4 * d + 4 * d) + (4 * d * d + d) == bottleneck
    assert bottleneck + 8 * ((4 * d**2 + 4 * d) + (8 * d**2 + 5 * d) + 4 * d) == total
    assert sum(p.numel() for p in net.parameters()) == total


def test_attention_is_linear_in_its_kernels():
    torch.manual_seed(0)
    layer, x = LinearAttention(8, 2), torch.randn(2, 5, 8)
    q, k, v = layer.qkv(x).chunk(3, dim=2)
    wanted = torch.empty(2, 5, 8)
    for n in range(2):
        for head in (slice(0, 4), slice(4, 8)):
            kernel = (functional.elu(q[n, :, head]) + 1) @ (functional.elu(k[n, :, head]) + 1).T
            wanted[n, :, head] = (kernel / kernel.sum(dim=1, keepdim=True)) @ v[n, :, head]
    assert torch.allclose(layer(x), layer.out(wanted), atol=1e-5)


def test_a_vanishing_denominator_gives_no_nan():
    layer = LinearAttention(4, 1)
    torch.nn.init.zeros_(layer.qkv.weight)
    with torch.no_grad():
        layer.qkv.bias[:8] = -200.0  # ELU + 1 is 0 there in float32
    assert torch.isfinite(layer(torch.randn(1, 3, 4))).all()


def test_first_weights_blocks_and_dropout():
    torch.manual_seed(0)
    net = DinomalyNet(64, 4, 3, 0.2)
    linear = [m for m in net.modules() if isinstance(m, torch.nn.Linear)]
    for layer in linear:
        assert layer.weight.abs().max() <= 0.03
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not layer.bias.any()
    assert {m.eps for m in net.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-8}
    assert [type(m).__name__ for m in net.mlp] == [
        "SeededDropout",
        "Linear",
        "GELU",
        "SeededDropout",
        "Linear",
        "SeededDropout",
    ]
    assert [m.p for m in net.modules() if isinstance(m, SeededDropout)] == [0.2] * 3
    assert not any(isinstance(m, SeededDropout) for m in net.blocks.modules())
    net.eval()
    x, seen = torch.randn(2, 5, 64), []
    for block in net.blocks:
        block.register_forward_hook(lambda *args: seen.append(args[2]))
    assert all(torch.equal(a, b) for a, b in zip(net(x), seen[::-1], strict=True))


def test_a_block_with_silent_branches_is_the_identity():
    block, x = DecoderBlock(8, 2), torch.randn(1, 4, 8)
    for layer in (block.attention.out, block.mlp[2]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("settings", [TINY, REGISTERS])
def test_the_first_half_of_the_encoder_belongs_to_the_last_half_of_the_decoder(make_method, settings):
    method = make_method(Dinomaly, "smoke", settings)
    method.net.eval()
    images = torch.rand(2, 1, 48, 48)
    found = method.backbone.with_prefix(images)
    layers = [p for p, _ in found]
    tokens = torch.stack([torch.cat([t, p.flatten(2).mT], dim=1) for p, t in found]).mean(dim=0)
    outputs = [o[:, 1:].mT.unflatten(2, (3, 3)) for o in method.net(tokens)]  # the last block first
    (e1, d1), (e2, d2) = method.pairs(images)
    assert torch.allclose(e1, (layers[0] + layers[1]) / 2, atol=1e-6)
    assert torch.allclose(e2, (layers[2] + layers[3]) / 2, atol=1e-6)
    assert torch.allclose(d1, (outputs[0] + outputs[1]) / 2, atol=1e-6)
    assert torch.allclose(d2, (outputs[2] + outputs[3]) / 2, atol=1e-6)


def test_no_gradient_reaches_the_encoder_and_it_stays_in_evaluation_mode(train):
    method, _ = train(Dinomaly, **TINY)
    assert all(p.grad is None and not p.requires_grad for p in method.backbone.parameters())
    assert not method.backbone.training


def plain_loss(pairs):
    values = []
    for e, d in pairs:
        e, d = e.flatten(1), d.flatten(1)
        values.append(1 - (e * d).sum(1) / e.norm(dim=1) / d.norm(dim=1))
    return torch.stack(values).mean()


@pytest.mark.parametrize("easy", [0.0, 0.5, 0.9])
def test_easy_positions_keep_a_tenth_of_their_gradient_and_the_value_is_the_same(easy):
    torch.manual_seed(0)
    pairs = [(torch.randn(3, 6, 4, 4), torch.randn(3, 6, 4, 4, requires_grad=True)) for _ in range(2)]
    loss = group_loss(pairs, easy, 0.1)
    plain = plain_loss(pairs)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    found = torch.autograd.grad(loss, [d for _, d in pairs])
    whole = torch.autograd.grad(plain, [d for _, d in pairs])
    for (e, d), scaled, full in zip(pairs, found, whole, strict=True):
        distance = (1 - functional.cosine_similarity(e, d, dim=1)).detach()
        wanted = np.sort(distance.flatten().numpy())[::-1][: int(48 * (1 - easy))]
        hard = distance >= float(wanted[-1])
        assert int(hard.sum()) == int(48 * (1 - easy))  # of the whole batch, not of each slice
        assert torch.allclose(scaled, torch.where(hard[:, None], full, 0.1 * full), atol=1e-7)


def test_targets_are_centred_on_the_class_token_and_normalised(make_method):
    torch.manual_seed(0)
    tokens = torch.randn(2, 7, 16) * 3
    centred = (tokens - tokens[:, :1]).numpy()[:, 1:]
    wanted = (centred - centred.mean(-1, keepdims=True)) / np.sqrt(centred.var(-1, keepdims=True))
    assert np.allclose(recentred(tokens, 1)[:, 1:], wanted, atol=1e-4)
    assert torch.allclose(
        recentred(tokens, 0), functional.layer_norm(tokens - tokens.mean(1, keepdim=True), (16,)), atol=1e-3
    )
    images, plain, centred = (
        torch.rand(2, 1, 48, 48),
        make_method(Dinomaly, "smoke", TINY),
        make_method(Dinomaly, "smoke", {**TINY, "recentre": True}),
    )
    for method in (plain, centred):
        method.net.eval()
    for (e, d), (target, same) in zip(plain.pairs(images), centred.pairs(images), strict=True):
        assert torch.equal(d, same)
        assert not torch.allclose(e, target)
    assert make_method(Dinomaly, "smoke", TINY).has_class_token
    assert not make_method(Dinomaly, "smoke", REGISTERS).has_class_token


def test_map_is_the_mean_of_the_groups(train, toy_case):
    method, _ = train(Dinomaly, **TINY, sigma=1.0)
    seen = apply_view(toy_case(9, lesion=True)[0], method.view)
    images = as_input(seen.image, "cpu")
    method.net.eval()
    with torch.inference_mode():
        total = torch.zeros(8, 48, 48)
        for e, d in method.pairs(images):
            cosine = (e * d).sum(1, keepdim=True) / e.norm(dim=1, keepdim=True) / d.norm(dim=1, keepdim=True)
            total += functional.interpolate(1 - cosine, size=48, mode="bilinear")[:, 0] / 2
    assert np.allclose(method.score_view(seen.image, seen.roi, (1, 1, 1)), smooth(total, 1.0), atol=1e-5)


def test_the_organ_fills_the_view_unless_the_frame_is_asked_for(make_method, toy_case):
    case, _ = toy_case(0)
    filled, whole = (
        apply_view(case, make_method(Dinomaly, "smoke", {"crop": crop}).view).roi.any(axis=0)
        for crop in ("roi", "frame")
    )
    assert filled.any(axis=1).all() or filled.any(axis=0).all()
    assert not whole.any(axis=1).all()


def test_the_rate_rises_and_falls_as_published(rates, train):
    assert [warm_cosine(i, 10_000, 100, 0.1) for i in (0, 49, 99, 100)] == pytest.approx([0.01, 0.5, 1, 1])
    assert warm_cosine(5050, 10_000, 100, 0.1) == pytest.approx(0.55)
    assert warm_cosine(10_000, 10_000, 100, 0.1) == pytest.approx(0.1)
    assert {warm_cosine(i, 40_000, 100, 1.0) for i in (100, 7000, 39_999)} == {1.0}
    train(Dinomaly, updates=6, warmup=2)
    assert rates == pytest.approx([2e-3 * warm_cosine(i, 6, 2, 0.1) for i in range(6)])


def test_an_update_clips_the_gradient(make_method, healthy, monkeypatch):
    from uasbench.methods.context import FitContext

    norms = []
    own = StableAdamW.step

    def noted(self, closure=None):
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
        return own(self, closure)

    monkeypatch.setattr(StableAdamW, "step", noted)
    make_method(Dinomaly, "smoke", {"clip": 1e-3}).fit(healthy, FitContext(0))
    assert norms == pytest.approx([1e-3] * 4, rel=1e-2)


def test_the_narrow_layer_has_a_rate_of_its_own(make_method):
    method = make_method(Dinomaly2)
    rest, narrow = method.optimiser().param_groups
    assert [p.shape for p in narrow["params"]] == [(16, 152), (16,)]
    assert (rest["lr"], narrow["lr"], narrow["amsgrad"]) == (2e-3, 2e-4, False)
    assert len(rest["params"]) + 2 == len(list(method.net.parameters()))


@pytest.mark.parametrize("amsgrad", [False, True])
def test_without_clipping_the_optimiser_is_adamw(amsgrad):
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3), torch.randn(9, 4, 3)
    nets = []
    for kind, more in ((StableAdamW, {"clip": 1e9}), (torch.optim.AdamW, {})):
        weight = torch.nn.Parameter(start.clone())
        optimiser = kind([weight], lr=0.01, weight_decay=0.1, amsgrad=amsgrad, **more)
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimiser.step()
        nets.append(weight.detach())
    assert torch.allclose(*nets, atol=1e-6)


def test_a_gradient_that_is_large_beside_the_running_one_shortens_the_step():
    weight = torch.nn.Parameter(torch.zeros(2))
    optimiser = StableAdamW([weight], lr=0.1, eps=0.0)
    moves = []
    for gradient in ([1.0, 1.0], [30.0, 40.0]):
        before = weight.detach().clone()
        weight.grad = torch.tensor(gradient)
        optimiser.step()
        moves.append((weight.detach() - before).numpy())
    assert np.allclose(moves[0], -0.1)
    gradient, mean = np.array([30.0, 40.0]), 0.9 * 0.1 + 0.1 * np.array([30.0, 40.0])
    square = 0.999 * 0.001 + 0.001 * gradient**2
    denominator = np.sqrt(square / (1 - 0.999**2))
    shortened = np.sqrt(np.mean((gradient / denominator) ** 2))
    assert shortened > 1.3
    assert np.allclose(moves[1], -0.1 * mean / (1 - 0.9**2) / denominator / shortened, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"depth": 3}, "depth=3"), ({"blocks": (1, 2, 3)}, "blocks"), ({"depth": 0}, "at least 2")],
)
def test_two_groups_need_even_numbers(settings, said):
    with pytest.raises(ConfigError, match=said):
        resolve(DinomalyConfig, "paper", "liver", settings)


def test_heads_divide_the_width(make_method):
    with pytest.raises(ConfigError, match="heads=5: test_vit has tokens of 64"):
        make_method(Dinomaly, "smoke", {**TINY, "heads": 5})
