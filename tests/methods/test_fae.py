"""FAE: the autoencoder's size, what its backbone sees, the similarity that is learned and scored."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional
from uasbench.methods.features.fae import FAE
from uasbench.methods.losses import ssim_loss, ssim_map
from uasbench.methods.nets.feature_autoencoder import FeatureAutoencoder
from uasbench.methods.nets.layers import SeededDropout, seed_dropout


def test_the_autoencoder_has_the_published_size():
    widths = (256, 100, 150, 200, 300)
    convolutions = 25 * (sum(a * b for a, b in pairwise(widths)) + 300 * 300)
    convolutions += 36 * sum(a * b for a, b in pairwise(widths[::-1])) + 256 * 256
    with torch.device("meta"):
        net = FeatureAutoencoder()
        bottleneck = net.bottleneck(net.encoder(torch.empty(2, 256, 32, 32)))
    found = sum(p.numel() for p in net.parameters())
    assert found == convolutions + 2 * (sum(widths[1:]) + sum(widths[:-1])) == 10_285_048
    assert bottleneck.shape == (2, 300, 2, 2)


def test_maps_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        FeatureAutoencoder(8, (4, 4, 4, 4))(torch.zeros(1, 8, 24, 24))


@pytest.fixture(scope="module")
def resnet(make_method):
    return make_method(FAE, "smoke", {"backbone": "resnet18.tv_in1k", "size": 64, "widths": (8, 8)})


def test_the_backbone_sees_three_times_grey_in_minus_one_to_one(resnet):
    seen = []
    hook = resnet.backbone.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    resnet.stacked(images)
    hook.remove()
    assert torch.allclose(seen[0], (2 * images - 1).expand(-1, 3, -1, -1), atol=1e-6)


def test_a_loaded_backbone_sees_the_same(train, make_method, tmp_path):
    method, _ = train(FAE)
    method.save(tmp_path / "state.pt")
    loaded = make_method(FAE, seed=1)
    loaded.load(tmp_path / "state.pt")
    assert torch.equal(loaded.backbone.scale, torch.full((1, 3, 1, 1), 2.0))
    assert torch.equal(loaded.backbone.shift, torch.full((1, 3, 1, 1), -1.0))


def test_features_are_the_pooled_stem_and_two_layers_at_a_quarter_of_the_side(resnet):
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    found = resnet.stacked(images)
    assert found.shape == (2, 64 + 64 + 128, 16, 16)
    net = resnet.backbone.net
    with torch.no_grad():
        pooled = net.maxpool(net.act1(net.bn1(net.conv1((2 * images - 1).expand(-1, 3, -1, -1)))))
        first = net.layer1(pooled)
        second = functional.interpolate(net.layer2(first), (16, 16), mode="bilinear", align_corners=True)
    assert torch.allclose(found, torch.cat([pooled, first, second], dim=1), atol=1e-5)


def windowed_ssim(a: np.ndarray, b: np.ndarray, window: int) -> np.ndarray:
    """Structural similarity of one channel by plain sums over each window, zeros around."""
    at = np.arange(window) - window // 2
    weights = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    weights /= weights.sum()
    a, b = (np.pad(x.astype(float), window // 2) for x in (a, b))
    out = np.empty([n - window + 1 for n in a.shape])
    for y, x in np.ndindex(out.shape):
        p, q = (m[y : y + window, x : x + window] for m in (a, b))
        mp, mq = (weights * p).sum(), (weights * q).sum()
        vp, vq = (weights * p * p).sum() - mp**2, (weights * q * q).sum() - mq**2
        vpq = (weights * p * q).sum() - mp * mq
        out[y, x] = (2 * mp * mq + 1e-4) * (2 * vpq + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
    return out


def test_loss_and_map_are_the_dissimilarity_of_features_in_a_window_of_five(make_method):
    method = make_method(FAE, "smoke")
    method.net.eval()
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        maps = method.stacked(images)
        restored = method.net(maps)
        found = method.maps(images)
        loss = float(ssim_loss(maps, restored, method.config.ssim_window))
    assert method.config.ssim_window == 5
    pairs = zip(maps.numpy(), restored.numpy(), strict=True)
    wanted = np.array([[windowed_ssim(a, b, 5) for a, b in zip(*pair, strict=True)] for pair in pairs])
    assert loss == pytest.approx(1 - wanted.mean(), abs=1e-4)
    off = torch.from_numpy(1 - wanted.mean(axis=1))[:, None]
    enlarged = functional.interpolate(off, (32, 32), mode="bilinear", align_corners=True)[:, 0]
    assert np.allclose(found.numpy(), enlarged.numpy(), atol=1e-4)


def test_the_map_is_never_negative_and_zero_where_features_are_reproduced(make_method, toy_net):
    method = make_method(FAE, "smoke")
    images = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    method.net = toy_net(lambda x, w: x + w)
    assert method.maps(images).abs().max() < 1e-5
    method.net = toy_net(lambda x, w: -x + w)
    with torch.no_grad():
        assert 0 <= method.maps(images).min() < method.maps(images).max() <= 2
    x = torch.rand(1, 2, 8, 8)
    assert ssim_map(x, 3 * x, 5).min() < 0.9  # another scale is another structure: constants do not adapt


def test_dropout_takes_whole_channels():
    layer = SeededDropout(0.5, channels=True)
    seed_dropout(torch.nn.ModuleList([layer, torch.nn.Linear(1, 1)]), 0)
    found = layer(torch.ones(4, 32, 6, 6))
    assert set(found.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(found.amax((2, 3)), found.amin((2, 3)))
    assert 0.3 < (found[..., 0, 0] > 0).float().mean() < 0.7
