"""ASC-Net: settings, the alternating training on two sets, orientation of its map, post-processing."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.morphology import footprint_rectangle, opening
from uasbench.common.errors import UasbenchError
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import ConfigError, by_stage, resolve
from uasbench.methods.context import FitContext
from uasbench.methods.transductive.asc_net import ASCNet, ASCNetConfig, ASCNetPost, opened, oriented


@pytest.fixture(scope="module")
def healthy(toy_case):
    return HealthySet.from_cases([toy_case(i)[0] for i in range(2)])


@pytest.fixture(scope="module")
def unlabelled(toy_case):
    return HealthySet.from_cases([toy_case(i, lesion=True)[0] for i in (8, 9)])


def train(make_method, healthy, unlabelled, limit=None, **values):
    method = make_method(ASCNet, "smoke", values)
    curve: list[dict[str, float]] = []
    method.fit(
        healthy, FitContext(seed=0, max_updates=limit, unlabelled=unlabelled, on_log=lambda _, v: curve.append(v))
    )
    return method, curve


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()]).clone()


def test_paper_profile_equals_the_published_settings():
    c = resolve(ASCNetConfig, "paper", "liver")
    assert (c.base, c.dropout, c.norm_momentum, c.l2, c.lr, c.beta1) == (32, 0.3, 0.01, 2e-4, 5e-5, 0.9)
    assert (c.disjoint, c.disjoint_weight, c.adversarial_weight, c.critic_updates) == ("soft", 1, 1, 1)
    assert (c.size, c.window, c.batch, c.updates, c.erode) == (256, (-200, 250), 16, 10_000, 0)
    assert (c.orientation, resolve(ASCNetConfig, "paper", "lung").orientation) == ("dark", "bright")
    assert set(by_stage(c)[1]) == {"orientation", "erode"}
    assert ASCNet.card.uses == ASCNetPost.card.uses == "unlabelled-test"


def test_post_processing_shares_the_training():
    for profile in ("smoke", "quick", "paper"):
        plain, post = resolve(ASCNet.Config, profile), resolve(ASCNetPost.Config, profile)
        assert by_stage(plain)[0] == by_stage(post)[0]
    assert ASCNetPost.card.trainer == ASCNet.card.name
    assert by_stage(resolve(ASCNetPost.Config, "paper"))[1]["kernel"] == 5


def test_optimisers_hold_one_network_each_and_the_penalty(make_method, healthy, unlabelled, optimisers):
    method, _ = train(make_method, healthy, unlabelled, lr=0.5, l2=0.25, limit=1)
    for optimiser, net in zip(optimisers, (method.critic, method.net), strict=True):
        held = {id(p) for group in optimiser.param_groups for p in group["params"]}
        assert held == {id(p) for p in net.parameters()}
        assert [g["weight_decay"] for g in optimiser.param_groups] == [0.5, 0]
        assert all((g["lr"], g["betas"]) == (0.5, (0.9, 0.999)) for g in optimiser.param_groups)


def test_losses_are_those_of_the_paper(make_method):
    method = make_method(ASCNet, "smoke", {"disjoint_weight": 2.0, "adversarial_weight": 3.0, "dropout": 0.0})
    image = torch.rand(3, 1, 32, 32)
    cut, rest, rebuilt = (x.detach() for x in method.net(image))
    losses = method.main_losses(image)
    assert list(losses) == ["mse", "disjoint", "adversarial"]
    assert torch.allclose(losses["mse"], torch.nn.functional.mse_loss(rebuilt, image))
    assert torch.allclose(losses["disjoint"], 2 * (2 * (cut * rest).sum() + 1) / (cut.sum() + rest.sum() + 1))
    verdict = method.critic(cut).detach()
    assert torch.allclose(losses["adversarial"], 3 * (verdict + 1).mean(), atol=1e-5)


def test_discriminator_separates_reference_from_cut_and_main_module_stays(make_method):
    method = make_method(ASCNet, "smoke", {"dropout": 0.0})
    real, image = torch.rand(3, 1, 32, 32), torch.rand(3, 1, 32, 32)
    loss = method.critic_loss(real, image)
    verdict = method.critic(torch.cat([real, method.net(image)[0].detach()])).detach()
    assert torch.allclose(loss, torch.cat([verdict[:3] + 1, 1 - verdict[3:]]).mean(), atol=1e-5)
    loss.backward()
    assert all(p.grad is None for p in method.net.parameters())
    assert all(p.grad is not None for p in method.critic.parameters())


def test_main_update_leaves_the_discriminator_alone(make_method):
    method = make_method(ASCNet)
    sum(method.main_losses(torch.rand(2, 1, 32, 32)).values()).backward()
    assert all(p.grad is None for p in method.critic.parameters())
    assert all(p.requires_grad for p in method.critic.parameters())
    assert float(method.net.reference.head.weight.grad.abs().sum()) > 0


def test_without_unlabelled_the_fit_is_refused(make_method, healthy):
    with pytest.raises(UasbenchError, match="unlabelled test cases"):
        make_method(ASCNet).fit(healthy, FitContext(seed=0))


def test_both_sets_enter_the_training(make_method, healthy, unlabelled):
    plain = weights(train(make_method, healthy, unlabelled)[0].net)
    assert not torch.equal(plain, weights(train(make_method, healthy, healthy)[0].net))
    assert not torch.equal(plain, weights(train(make_method, unlabelled, unlabelled)[0].net))


def test_squared_error_falls(make_method, healthy, unlabelled):
    _, curve = train(make_method, healthy, unlabelled, updates=25, lr=1e-2, dropout=0.0)
    assert list(curve[0]) == ["mse", "disjoint", "adversarial", "discriminator"]
    assert np.mean([v["mse"] for v in curve[-5:]]) < 0.9 * curve[0]["mse"]


def test_the_post_processed_method_reads_a_state_of_the_plain_one(make_method, healthy, unlabelled, tmp_path):
    method, _ = train(make_method, healthy, unlabelled)
    method.save(tmp_path / "asc.pt")
    post = ASCNetPost(resolve(ASCNetPost.Config, "smoke", "liver"))
    post.load(tmp_path / "asc.pt")
    array, roi = np.random.default_rng(0).random((2, 32, 32), np.float32), np.ones((2, 32, 32), bool)
    plain = method.score_view(array, roi, (1, 1, 1))
    processed = post.score_view(array, roi, (1, 1, 1))
    assert (processed <= plain).all()
    assert not np.array_equal(processed, plain)


def test_orientation_says_which_end_is_anomalous():
    map_ = np.array([[[0.1, 0.5, 0.6, 0.9]]], np.float32)
    roi = np.array([[[True, True, True, False]]])
    assert np.array_equal(oriented(map_, roi, "bright"), map_)
    assert np.allclose(oriented(map_, roi, "dark"), 1 - map_)
    assert np.allclose(oriented(map_, roi, "both")[roi], [0.4, 0.0, 0.1])
    assert not oriented(map_, np.zeros_like(roi), "both").any()


def test_the_map_is_iro_inside_the_eroded_region(make_method):
    method = make_method(ASCNet, "smoke", {"orientation": "bright", "erode": 1})
    array = np.random.default_rng(0).random((3, 32, 32), np.float32)
    roi = np.zeros(array.shape, bool)
    roi[:, 8:24, 8:24] = True
    map_ = method.score_view(array, roi, (1, 1, 1))
    with torch.no_grad():
        joined = method.net.eval()(torch.from_numpy(array)[:, None])[2][:, 0].numpy()
    inner = ndimage.binary_erosion(roi, ndimage.generate_binary_structure(2, 1)[None])
    assert np.allclose(map_[inner], joined[inner], atol=1e-6)
    assert not map_[~inner].any()


def test_opening_equals_the_binary_one_at_every_threshold():
    map_ = ndimage.gaussian_filter(np.random.default_rng(0).random((2, 24, 24)), (0, 1, 1)).astype(np.float32)
    map_[:, :1] = map_[:, -1:] = map_[:, :, :1] = map_[:, :, -1:] = 0
    result = opened(map_, 3)
    assert result.dtype == np.float32
    for slice_, expected in zip(result, map_, strict=True):
        assert np.array_equal(slice_, opening(expected, footprint_rectangle((3, 3)), mode="min"))
    for cut in np.quantile(map_, (0.3, 0.6, 0.9)):
        assert np.array_equal(result > cut, ndimage.binary_opening(map_ > cut, np.ones((1, 3, 3), bool)))
    assert opened(map_, 1) is map_


@pytest.mark.parametrize("kernel", [0, 2, -1])
def test_an_even_kernel_is_refused(kernel):
    with pytest.raises(ConfigError, match="odd number"):
        resolve(ASCNetPost.Config, "paper", None, {"kernel": kernel})
