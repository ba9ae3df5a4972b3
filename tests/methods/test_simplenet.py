"""SimpleNet: its networks, its loss, the patches that it looks at, and that nothing of a test set enters."""

import numpy as np
import pytest
import torch
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext, TrainingError
from uasbench.methods.features.parts.backbone import smooth, upsample
from uasbench.methods.features.parts.pooled_patches import OrganPatches
from uasbench.methods.features.simplenet import SimpleNet, SimpleNetConfig, hinge_loss
from uasbench.methods.nets.feature_discriminator import FeatureDiscriminator, feature_adaptor
from uasbench.methods.training import as_input


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_the_published_networks_have_the_weights_of_the_formula():
    c = resolve(SimpleNetConfig)
    with torch.device("meta"):
        nets = feature_adaptor(c.dims), FeatureDiscriminator(c.dims, c.hidden)
    adaptor, discriminator = (sum(p.numel() for p in net.parameters()) for net in nets)
    assert adaptor == 1536 * 1536 + 1536 == 2_360_832
    assert discriminator == (1536 * 1024 + 1024) + 2 * 1024 + 1024 == 1_576_960
    assert adaptor + discriminator == 3_937_792


def test_the_discriminator_is_linear_norm_leaky_linear():
    torch.manual_seed(0)
    net, x = FeatureDiscriminator(6, 5), torch.randn(40, 6)
    hidden = (x @ net.head.weight.T + net.head.bias).detach().numpy()
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    wanted = np.where(hidden > 0, hidden, 0.2 * hidden) @ net.tail.weight.detach().numpy()[0]
    assert np.allclose(net(x).detach(), wanted, atol=1e-5)
    wide = feature_adaptor(400).weight
    assert wide.std().item() == pytest.approx(np.sqrt(2 / 800), rel=0.02)


def test_loss_is_a_hinge_on_both_sides():
    real, fake = np.array([0.7, 0.1, -2.0]), np.array([-0.9, 0.3, -0.4])
    wanted = np.mean([0, 0.4, 2.5]) + np.mean([0, 0.8, 0.1])
    assert float(hinge_loss(torch.tensor(real), torch.tensor(fake), 0.5)) == pytest.approx(wanted)


def test_healthy_and_noisy_features_share_a_batch_norm_and_the_noise_is_not_scaled(make_method, healthy):
    method = make_method(SimpleNet)
    seen = []
    method.discriminator.norm.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    method.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    batch, noise = method.batch_source(healthy, FitContext(0))()
    method.loss(batch, noise)
    together, rows = seen
    assert rows == len(together) == 2 * len(batch.chosen)
    real, fake = together.chunk(2)
    assert torch.equal(fake, real + noise)
    assert noise.std().item() == pytest.approx(0.015, rel=0.05)
    stages = method.embed(as_input(batch.images, "cpu")).flatten(0, 1)
    assert torch.allclose(real, method.adaptor(stages[batch.chosen]))


def test_noise_is_drawn_anew_for_every_batch(make_method, healthy):
    draw = make_method(SimpleNet).batch_source(healthy, FitContext(0))
    (_, first), (_, second) = draw(), draw()
    assert not torch.equal(first[:20], second[:20])


def test_patches_are_those_of_the_organ_and_slices_without_any_are_left_out(make_method, toy_case):
    method = make_method(SimpleNet)
    case, _ = toy_case(0)
    stack = HealthySet.from_cases([case]).array(method.view)
    hidden = iter(range(len(stack)))

    def cells(rois: np.ndarray) -> np.ndarray:
        found = method._cells(rois)
        found[[next(hidden) % 2 == 1 for _ in rois]] = False
        return found

    patches = OrganPatches(stack, FitContext(0), 4, cells, "order")
    for _ in range(5):
        batch = patches.draw()
        assert (batch.numbers % 2 == 0).all()
        wanted = method._cells(batch.rois.numpy()).reshape(4, -1)
        assert np.array_equal(batch.chosen, np.flatnonzero(wanted))
    with pytest.raises(TrainingError, match="no training slices"):
        OrganPatches(stack, FitContext(0), 4, lambda rois: np.zeros((len(rois), 4, 4), bool), "order")


def test_without_organ_only_every_patch_counts(make_method, healthy):
    batch, _ = make_method(SimpleNet, "smoke", {"organ_only": False}).batch_source(healthy, FitContext(0))()
    assert len(batch.chosen) == 4 * 16


def test_map_is_minus_the_discriminator_and_the_rest_counts_as_healthy(train, toy_case):
    method, _ = train(SimpleNet, size=64)
    seen = apply_view(toy_case(9, lesion=True)[0], method.view)
    found = method.score_view(seen.image, seen.roi, (1, 1, 1))
    cells = method._cells(seen.roi)
    assert cells.any()
    assert not cells.all()
    with torch.inference_mode():
        features = method.embed(as_input(seen.image, "cpu"))
        scores = -method.discriminator(method.adaptor(features.flatten(0, 1))).unflatten(0, (8, 64))
    scores = torch.where(torch.from_numpy(cells), scores.unflatten(1, (8, 8)), torch.tensor(-0.5))
    assert np.allclose(found, smooth(upsample(scores, 64), 1.0), atol=1e-5)


def test_a_score_does_not_depend_on_the_other_scans_of_a_test_set(train, toy_case):
    """The released code stretches scores from the least to the greatest of the test set."""
    method, _ = train(SimpleNet)
    case, _ = toy_case(9, lesion=True)
    alone = method.score(case)
    bright = Case("bright", "q", case.image * 3, case.spacing, case.roi)
    method.score(bright)
    assert np.array_equal(method.score(case), alone)


def test_the_last_weights_score(make_method, healthy):
    """Each update moves the weights, and no earlier ones come back, however good their loss was."""
    method, passed = make_method(SimpleNet), []
    context = FitContext(0, on_progress=lambda *_: passed.append(weights(method.discriminator)))
    method.fit(healthy, context)
    assert len({tuple(w.tolist()) for w in passed}) == len(passed) == 4
    assert torch.equal(weights(method.discriminator), passed[-1])
