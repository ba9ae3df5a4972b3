"""ASC-Net: its networks, the alternating training on two sets, orientation of its map, post-processing."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.morphology import footprint_rectangle, opening
from uasbench.common.errors import UasbenchError
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.nets.asc_nets import CutNet, Discriminator, disjointness, regularised
from uasbench.methods.transductive.asc_net import ASCNet, ASCNetPost, opened, oriented


def test_cuts_and_reconstruction_have_the_size_of_the_image_and_are_joined_pixel_by_pixel():
    net = CutNet(base=2)
    outputs = net(torch.rand(2, 1, 32, 48))
    assert [tuple(x.shape) for x in outputs] == [(2, 1, 32, 48)] * 3
    assert all(0 <= float(x.detach().min()) <= float(x.detach().max()) <= 1 for x in outputs)
    with pytest.raises(ValueError, match="multiples of 16"):
        net(torch.rand(1, 1, 40, 32))
    net.eval()
    with torch.no_grad():
        cut, rest, rebuilt = net(torch.rand(1, 1, 32, 32))
        (a, b), c = net.join.weight.flatten(), net.join.bias
        assert torch.allclose(rebuilt, torch.sigmoid(a * cut + b * rest + c), atol=1e-6)


def test_discriminator_answers_between_the_two_labels():
    verdict = Discriminator(32, base=2)(torch.rand(3, 1, 32, 32)).detach()
    assert verdict.shape == (3,)
    assert verdict.abs().max() <= 1


def test_dropout_follows_poolings_and_skips_but_the_finest_and_the_penalty_holds_3x3_kernels_alone():
    net = CutNet(base=2, dropout=0.3)
    assert net.trunk.pool[1].p == 0.3
    for decoder in (net.reference, net.rest):
        assert [block[0].p for block in decoder.up] == [0.3, 0.3, 0.3, 0.0]
    held = regularised(CutNet(base=2))
    assert len(held) == 2 * (5 + 4 + 4)
    assert all(w.shape[-2:] == (3, 3) for w in held)
    assert len(regularised(Discriminator(32, base=2))) == 10


def test_disjointness_is_the_dice_overlap_without_a_gradient_only_where_it_is_binarised():
    a, b = torch.tensor([0.5, 0.0, 1.0]), torch.tensor([1.0, 0.5, 0.0])
    assert math.isclose(float(disjointness(a, b)), (2 * 0.5 + 1) / (1.5 + 1.5 + 1))
    assert float(disjointness(torch.ones(9), torch.zeros(9))) == pytest.approx(1 / 10)
    assert float(disjointness(torch.ones(9), torch.ones(9))) == 1
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


@pytest.fixture(scope="module")
def unlabelled(toy_case):
    return HealthySet.from_cases([toy_case(i, lesion=True)[0] for i in (8, 9)])


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


def test_discriminator_separates_reference_from_cut_and_each_update_leaves_the_other_module_alone(make_method):
    method = make_method(ASCNet, "smoke", {"dropout": 0.0})
    real, image = torch.rand(3, 1, 32, 32), torch.rand(3, 1, 32, 32)
    loss = method.critic_loss(real, image)
    verdict = method.critic(torch.cat([real, method.net(image)[0].detach()])).detach()
    assert torch.allclose(loss, torch.cat([verdict[:3] + 1, 1 - verdict[3:]]).mean(), atol=1e-5)
    loss.backward()
    assert all(p.grad is None for p in method.net.parameters())
    assert all(p.grad is not None for p in method.critic.parameters())
    method.critic.zero_grad()
    sum(method.main_losses(image).values()).backward()
    assert all(p.grad is None and p.requires_grad for p in method.critic.parameters())
    assert method.net.reference.head.weight.grad.abs().sum() > 0


def test_without_unlabelled_the_fit_is_refused(make_method, healthy):
    with pytest.raises(UasbenchError, match="unlabelled test cases"):
        make_method(ASCNet).fit(healthy, FitContext(seed=0))


def test_both_sets_enter_the_training(train, healthy, unlabelled):
    plain, *others = (
        train(ASCNet, scans, unlabelled=unknown)[0].net.reference.head.weight
        for scans, unknown in ((healthy, unlabelled), (healthy, healthy), (unlabelled, unlabelled))
    )
    assert not any(torch.equal(plain, other) for other in others)


def test_the_post_processed_method_reads_a_state_of_the_plain_one(train, unlabelled, tmp_path):
    method, _ = train(ASCNet, unlabelled=unlabelled)
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
