"""Restoration: published settings, total variation of the change, clipping, the weight by the healthy rule."""

import numpy as np
import pytest
import torch
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.early_stopping import hold_out
from uasbench.methods.reconstruction import vae_restoration
from uasbench.methods.reconstruction.vae_restoration import (
    VAERestoration,
    VAERestorationConfig,
    restore,
    total_variation,
)

SPACING = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def trained(train):
    return train(VAERestoration)[0]


@pytest.fixture(scope="module")
def seen(toy_case, trained):
    return apply_view(toy_case(9, lesion=True)[0], trained.view)


def random_images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def climb(steps: int, rate: float, early_rate: float = 0.0, early_steps: int = 0) -> VAERestorationConfig:
    return VAERestorationConfig(steps=steps, rate=rate, early_rate=early_rate, early_steps=early_steps)


def flat(images: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(images), requires_grad=True) + 0 * images.sum((1, 2, 3))


def test_total_variation_equals_numpy_and_is_that_of_the_change_not_of_the_slice():
    images = random_images(3).numpy()
    expected = [sum(np.abs(np.diff(image, axis=axis)).sum() for axis in (0, 1)) for image in images[:, 0]]
    assert total_variation(torch.from_numpy(images)).tolist() == pytest.approx(expected, rel=1e-5)
    rough, everywhere = random_images(2), torch.ones(2, 1, 8, 8, dtype=torch.bool)
    assert torch.equal(restore(rough, everywhere, flat, 2.0, climb(5, 0.1)), rough)

    def upward_at_one_pixel(images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 4, 4]

    free, held = (
        restore(rough, everywhere, upward_at_one_pixel, weight, climb(40, 0.01)) - rough for weight in (0.0, 2.0)
    )
    assert free[0, 0, 4, 4].item() == pytest.approx(0.4, abs=1e-5)
    assert held[0, 0, 4, 4].item() < 0.1


def test_a_step_follows_the_gradient_up_to_the_clip_inside_the_organ_and_the_first_are_longer():
    x = random_images(2)
    slopes = torch.tensor([-500.0, -100.0, -3.0, 0.0, 2.0, 60.0, 100.0, 1e6]).repeat(8, 1)
    roi = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    roi[..., :4, :] = True
    moved = restore(x, roi, lambda y: (y * slopes).sum((1, 2, 3)), 0.0, climb(1, 0.1)) - x
    assert torch.allclose(moved[:, :, :4], 0.1 * slopes[:4].clamp(-100, 100).expand(2, 1, 4, 8), atol=1e-5)
    assert not moved[:, :, 4:].any()
    x, roi = random_images(1), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    moved = restore(x, roi, lambda y: y.sum((1, 2, 3)), 0.0, climb(10, 0.01, 0.05, 4)) - x
    assert moved[0, 0, 0, 0].item() == pytest.approx(4 * 0.05 + 6 * 0.01, abs=1e-5)


def test_restoring_climbs_the_bound_whatever_the_batch_and_scales_bytes(trained, seen, monkeypatch):
    restored = trained.restored(seen.image, seen.roi, 0.0)
    before, after = (trained.slice_losses(torch.tensor(x)[:, None]).sum().item() for x in (seen.image, restored))
    assert after < before
    assert np.array_equal(restored[~seen.roi], seen.image[~seen.roi])
    levels = np.rint(255 * seen.image).astype(np.uint8)
    whole = trained.restored((levels / 255).astype(np.float32), seen.roi, 0.5)
    monkeypatch.setattr(vae_restoration, "SCORE_BATCH", 3)
    assert np.allclose(trained.restored(levels, seen.roi, 0.5), whole, atol=1e-5)


def test_the_smallest_of_the_weights_that_change_healthy_organs_least_is_taken(make_method, monkeypatch):
    changes = {2.0: 1.0, 1.0: 1.0, 0.0: 4.0, 3.0: 2.0}
    method = make_method(VAERestoration, "smoke", {"tv_grid": tuple(changes)})
    images, rois = np.zeros((1, 8, 8), np.float32), np.arange(64).reshape(1, 8, 8) < 20
    monkeypatch.setattr(method, "restored", lambda images, rois, weight: np.where(rois, changes[weight], -weight))
    method.choose_weight(images, rois)
    assert method.healthy_changes == list(changes.items())
    assert method.tv_weight == 1.0


def test_the_weight_is_chosen_on_held_out_patients_which_are_not_trained_on(train, make_method, healthy, monkeypatch):
    taken: dict[str, set[int]] = {"train": set(), "weight": set()}
    stack = healthy.array(make_method(VAERestoration).view)
    monkeypatch.setattr(HealthySet, "array", lambda self, view: stack)
    take, now = stack.take, ["train"]

    def spy(indices):
        taken[now[0]].update(int(i) for i in indices)
        return take(indices)

    monkeypatch.setattr(stack, "take", spy)
    monkeypatch.setattr(
        "uasbench.methods.reconstruction.parts.base.run_updates",
        lambda ctx, updates, step, watch: [step(i) for i in range(12)] and now.__setitem__(0, "weight"),
    )
    method, _ = train(VAERestoration, tv_slices=5)
    train_part, held = hold_out(healthy, stack, FitContext(0).rng("hold-out"))
    assert taken["train"] == set(train_part.tolist())
    assert len(taken["weight"]) == 5
    assert taken["weight"] <= set(held.tolist())
    assert [w for w, _ in method.healthy_changes] == [0.0, 1.0]
    assert method.tv_weight == min(method.healthy_changes, key=lambda pair: pair[1])[0]


def test_the_map_is_the_signed_change_inside_the_organ(trained, seen):
    moved = seen.image - trained.restored(seen.image, seen.roi, trained.tv_weight)
    for sign, expected in (("absolute", np.abs(moved)), ("positive", np.maximum(moved, 0))):
        method = VAERestoration(resolve(VAERestorationConfig, "smoke", "liver", {"sign": sign}))
        method.net, method.tv_weight = trained.net, trained.tv_weight
        assert np.allclose(method.score_view(seen.image, seen.roi, SPACING), expected * seen.roi, atol=1e-6)
