"""GLASS: the climb of the noise, textured masks, the loss of hard patches, and where textures come from."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from uasbench.common.errors import DataError
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.context import FitContext
from uasbench.methods.features.glass import GLASS, OtherPatients, clipped, global_loss, hard_focal_loss
from uasbench.methods.synthesis.textured_masks import TexturedMasks
from uasbench.methods.training import as_input


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_lengths_are_brought_into_the_shell():
    rows = torch.tensor([[0.1, 0.0], [0.0, 0.7], [3.0, 4.0]])
    assert torch.allclose(clipped(rows, 0.5), torch.tensor([[0.5, 0.0], [0.0, 0.7], [0.6, 0.8]]))


def test_noise_climbs_the_gradient_of_its_own_entropy_alone(make_method):
    """Batch norm ties healthy features to noisy ones; their own loss has no part in the direction."""
    method = make_method(GLASS, "smoke", {"ascent_steps": 1, "clip_every": 5})
    torch.manual_seed(0)
    real, noise = torch.randn(30, 64), 0.015 * torch.randn(30, 64)
    method.discriminator.train()
    found = method.ascend(real, noise)
    twin = noise.clone().requires_grad_()
    loss = functional.binary_cross_entropy_with_logits(
        method.discriminator(torch.cat([real, real + twin]))[30:], torch.ones(30)
    )
    loss.backward()
    assert twin.grad is not None
    wanted = noise + 0.001 * twin.grad / twin.grad.norm(dim=1, keepdim=True)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert not found.requires_grad


def test_after_every_fifth_step_noise_lies_in_the_shell(make_method):
    real, noise = torch.randn(30, 64), 0.015 * torch.randn(30, 64)
    lengths = {}
    for steps in (4, 5, 20):
        moved = make_method(GLASS, "smoke", {"ascent_steps": steps}).ascend(real, noise)
        lengths[steps] = moved.norm(dim=1)
    assert lengths[4].max() < 0.5
    for steps in (5, 20):
        assert 0.5 - 1e-4 <= lengths[steps].min() <= lengths[steps].max() <= 1 + 1e-4


def test_a_climb_leaves_no_gradient_in_the_networks_and_works_without_gradients(make_method):
    method = make_method(GLASS)
    with torch.no_grad():
        moved = method.ascend(torch.randn(10, 64), 0.015 * torch.randn(10, 64))
    assert torch.isfinite(moved).all()
    assert all(p.grad is None for net in (method.adaptor, method.discriminator) for p in net.parameters())


def test_losses_equal_their_definitions():
    rng = np.random.default_rng(0)
    real, noisy, local = (rng.normal(size=21) * 2 for _ in range(3))
    masks = rng.random(21) < 0.4
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    wanted = -np.log(1 - sigmoid(real)).mean() - np.log(sigmoid(noisy)).mean()
    assert float(global_loss(torch.tensor(real), torch.tensor(noisy))) == pytest.approx(wanted, rel=1e-5)
    error = (sigmoid(local) - masks) ** 2
    hard = error >= np.quantile(error, 0.5)
    p_t = np.where(masks, sigmoid(local), 1 - sigmoid(local))[hard]
    found = hard_focal_loss(torch.tensor(local), torch.tensor(masks), 0.5, 2.0)
    assert float(found) == pytest.approx(np.mean(-((1 - p_t) ** 2) * np.log(p_t)), rel=1e-3)


@given(st.integers(1, 40), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), st.integers(0, 10**6))
def test_as_many_patches_are_hard_as_lie_above_the_quantile(count, quantile, seed):
    rng = np.random.default_rng(seed)
    logits = torch.tensor((rng.permutation(count) - count / 2 + 0.3) / 10)
    error = logits.sigmoid().square().numpy()
    hard = error >= np.quantile(error, quantile) - 1e-12
    p = logits.sigmoid().numpy()[hard]
    found = float(hard_focal_loss(logits, torch.zeros(count, dtype=torch.bool), quantile, 2.0))
    assert found == pytest.approx(np.mean(p**2 * -np.log1p(-p)), rel=5e-3, abs=1e-4)


def test_masks_are_single_fields_unions_and_intersections_inside_the_organ():
    roi = torch.zeros(300, 32, 32, dtype=torch.bool)
    roi[:, 8:24, 8:24] = True
    found = TexturedMasks(32, generator(), draws=1).masks(roi)
    assert found.any(dim=(1, 2)).float().mean() > 0.5
    assert not (found & ~roi).any()
    one = TexturedMasks(32, generator(), threshold=-2.0, draws=1)  # a field is above it wherever the turn left it
    assert (one.masks(roi) == roi).all()
    shares = [TexturedMasks(32, generator(seed), draws=1)._joined(600).float().mean() for seed in range(2)]
    both = [TexturedMasks(32, generator(seed), threshold=0.0, draws=1)._joined(600).float().mean() for seed in range(2)]
    assert max(shares) < 0.25 < min(both) < max(both) < 0.6


def test_of_several_draws_the_first_that_meets_the_organ_is_taken():
    roi = torch.zeros(400, 32, 32, dtype=torch.bool)
    roi[:, 15:17, 15:17] = True
    empty = [
        (~TexturedMasks(32, generator(), draws=draws).masks(roi).any(dim=(1, 2))).float().mean().item()
        for draws in (1, 4)
    ]
    assert empty[1] == pytest.approx(empty[0] ** 4, abs=0.08)
    assert 0 < empty[1] < empty[0]


def test_a_share_of_the_image_stays_and_what_lies_outside_the_mask_is_untouched():
    images = torch.full((200, 32, 32), 255, dtype=torch.uint8)
    roi, dark = torch.ones(200, 32, 32, dtype=torch.bool), torch.zeros(200, 32, 32, dtype=torch.uint8)
    altered, masks = TexturedMasks(32, generator())(images, roi, (dark, roi))
    assert torch.equal(altered[~masks], torch.ones_like(altered[~masks]))
    assert altered[masks].min() >= 0.2 - 1e-6
    assert altered.max() <= 1
    least = [float(a[m].min()) for a, m in zip(altered, masks, strict=True) if m.any()]
    assert np.quantile(least, 0.3) == pytest.approx(0.5, abs=0.15)  # most operations leave a dark slice dark


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(0, 10**6))
def test_a_texture_comes_from_another_patient(patients, seed):
    names = np.array([f"p{p}" for p in patients])
    if len(set(patients)) < 2:
        with pytest.raises(DataError, match="one healthy patient only"):
            OtherPatients(names, np.random.default_rng(seed))
        return
    library = OtherPatients(names, np.random.default_rng(seed))
    own = names.repeat(5)
    assert (names[library.draw(own)] != own).all()
    strangers = np.array(["a", "q", "z"] * 50)
    assert set(library.draw(strangers)) <= set(range(len(names)))


def test_textures_of_others_are_drawn_uniformly():
    names = np.array(["a", "b", "a", "c", "b", "c"])
    library = OtherPatients(names, np.random.default_rng(0))
    drawn = np.bincount(library.draw(np.repeat("b", 8000)), minlength=6) / 8000
    assert drawn == pytest.approx([0.25, 0, 0.25, 0.25, 0, 0.25], abs=0.02)
    drawn = np.bincount(library.draw(np.repeat("unknown", 12000)), minlength=6) / 12000
    assert drawn == pytest.approx([1 / 6] * 6, abs=0.02)


def test_one_patient_is_too_few(make_method, toy_case):
    method = make_method(GLASS)
    assert method.min_patients == 2
    with pytest.raises(DataError, match="one healthy patient only"):
        method.fit(HealthySet.from_cases([toy_case(0)[0]]), FitContext(0))


def test_targets_are_the_chosen_patches_that_a_mask_touches(make_method, healthy):
    method = make_method(GLASS, "smoke", {"size": 64})
    batch, noise, altered, masks = method.batch_source(healthy, FitContext(0))()
    assert noise.shape == (len(batch.chosen), 64)
    changed = (altered != as_input(batch.images, "cpu")[:, 0]).numpy()
    touched = changed.reshape(4, 8, 8, 8, 8).any(axis=(2, 4)).reshape(-1)
    assert masks.any()
    assert np.array_equal(masks.numpy(), touched[batch.chosen.numpy()])
    assert not (changed & ~batch.rois.numpy()).any()


def test_map_is_a_probability_that_a_healthy_background_has_none_of(train, toy_case):
    method, _ = train(GLASS)
    assert method.background == 0
    case, _ = toy_case(9, lesion=True)
    scores = method.score(case)[case.roi]
    assert 0 <= scores.min() < scores.max() <= 1
    vectors = torch.randn(5, 64)
    wanted = method.discriminator(method.adaptor(vectors)).sigmoid()
    assert torch.allclose(method.patch_scores(vectors), wanted)


def test_the_gradient_of_the_adaptor_is_that_of_three_losses_with_the_climb_held_fixed(make_method, healthy):
    method = make_method(GLASS)
    batch, noise, altered, masks = method.batch_source(healthy, FitContext(0))()
    method.loss(batch, noise, altered, masks).backward()
    found = method.adaptor.weight.grad.clone()
    method.adaptor.zero_grad()
    stages = [method.embed(as_input(x, "cpu")).flatten(0, 1)[batch.chosen] for x in (batch.images, altered)]
    real, local = (method.adaptor(s) for s in stages)
    noisy = real + method.ascend(real.detach(), noise)
    count, entropy = len(real), functional.binary_cross_entropy_with_logits
    scores = method.discriminator(torch.cat([real, noisy]))
    plain = entropy(scores[:count], torch.zeros(count)) + entropy(scores[count:], torch.ones(count))
    (plain + hard_focal_loss(method.discriminator(local), masks, 0.5, 2.0)).backward()
    assert torch.allclose(method.adaptor.weight.grad, found, atol=1e-6)
