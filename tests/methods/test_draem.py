"""DRAEM: published settings, both networks in the optimiser, schedule, switches."""

import pytest
import torch
from uasbench.methods.context import FitContext
from uasbench.methods.losses import focal_loss, ssim_loss
from uasbench.methods.pseudo_anomaly.draem import DRAEM


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_frozen_restoration_leaves_its_weights_alone(make_method, healthy):
    method = make_method(DRAEM, "smoke", {"frozen_restoration": True})
    before, statistics = weights(method.restoration), method.restoration.down[0][1].running_mean.clone()
    method.fit(healthy, FitContext(seed=0))
    assert torch.equal(before, weights(method.restoration))
    assert not torch.equal(statistics, method.restoration.down[0][1].running_mean)


def test_a_frozen_restoration_learns_nothing_from_a_batch_without_anomalies(make_method, healthy, recwarn):
    curve: list[dict[str, float]] = []
    method = make_method(DRAEM, "smoke", {"frozen_restoration": True, "focal_on_empty": False, "p_none": 1.0})
    before = weights(method.restoration), weights(method.segmentation)
    method.fit(healthy, FitContext(seed=0, max_updates=1, on_log=lambda _, v: curve.append(v)))
    assert [set(v) for v in curve] == [{"l2", "ssim"}]
    assert torch.equal(before[0], weights(method.restoration))
    assert torch.equal(before[1], weights(method.segmentation))
    assert not recwarn


def test_weights_of_the_segmentation_net_follow_its_setting_and_those_of_the_other_net_do_not(make_method):
    def spreads(net):
        return [(m.weight.std().item(), 9 * m.in_channels) for m in net.modules() if isinstance(m, torch.nn.Conv2d)]

    published, he = (
        make_method(DRAEM, "paper", {"segmentation_init": init, "ae_base": 8, "seg_base": 16})
        for init in ("published", "he")
    )
    assert [s for s, _ in spreads(published.segmentation)] == pytest.approx([0.02 * 4**0.5] * 28, rel=0.2)
    assert [s for s, _ in spreads(he.segmentation)] == pytest.approx(
        [(2 / inputs) ** 0.5 for _, inputs in spreads(he.segmentation)], rel=0.2
    )
    assert torch.equal(weights(published.restoration), weights(he.restoration))


def test_learning_rate_falls_at_80_and_90_per_cent(train, rates):
    train(DRAEM, updates=10, lr=1.0)
    assert rates == pytest.approx([1.0] * 8 + [0.2] * 1 + [0.04] * 1)


class Scale(torch.nn.Module):
    """Multiplies each channel by a number, so that two channels are taken for logits."""

    def __init__(self, *factors):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factors).view(-1, 1, 1))

    def forward(self, x):
        return x * self.factor


def test_joint_loss_is_squared_error_and_similarity_to_the_clean_slice_and_focal_loss(
    make_method, healthy, monkeypatch
):
    method, drawn, totals, logged = make_method(DRAEM, "smoke", {"p_none": 0.0, "perlin_threshold": 0.2}), [], [], []
    method.restoration, method.segmentation = Scale(0.7), Scale(1.5, -2.0)
    original = method.batch_source

    def spy(*args, **kwargs):
        draw = original(*args, **kwargs)
        return lambda: drawn.append(draw()) or drawn[-1]

    monkeypatch.setattr(method, "batch_source", spy)
    backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: totals.append(loss.item()) or backward(loss))
    method.fit(healthy, FitContext(seed=0, max_updates=1, on_log=lambda _, v: logged.append(v)))
    clean, augmented, masks = drawn[0]
    assert masks.any()
    assert not torch.equal(clean, augmented)
    restored = 0.7 * augmented
    expected = {
        "l2": ((restored - clean) ** 2).mean(),
        "ssim": ssim_loss(restored, clean, window=11, sigma=1.5),
        "focal": focal_loss(torch.cat([1.5 * restored, -2 * augmented], dim=1), masks, gamma=2, smooth=1e-5),
    }
    assert logged[0] == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-5)
    assert totals[0] == pytest.approx(sum(expected.values()).item(), rel=1e-5)


def test_rotated_slices_keep_background_dark_and_masks_inside(make_method, healthy):
    method = make_method(DRAEM, "smoke", {"size": 64})
    clean, augmented, masks = method.batch_source(healthy.array(method.view), FitContext(seed=0), "joint", 1.0)()
    outside = ~masks[:, None]
    assert torch.equal(clean[outside], augmented[outside])
    assert clean[:, :, 0, 0].max() < 0.2
    assert (clean > 0).float().mean() > 0.1
