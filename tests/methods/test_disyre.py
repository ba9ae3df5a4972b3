"""DISYRE: degree and step rise together, what a corruption changes, grey classes, both scores, size of the network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from uasbench.benchmark.catalogue.sizes import count_parameters
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.diffusion.disyre import DISYRE, grey_classes, k_means
from uasbench.methods.synthesis.corruption import Corruption, matched, moved_onto, random_pixels, smoothed
from uasbench.methods.synthesis.grey_augmentation import augmented
from uasbench.methods.synthesis.motion import Motion, moved

CLASSES = torch.tensor([0.2, 0.5, 0.8])


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def block(before: int, after: int, time: int = 128) -> int:
    count = 2 * before + 9 * before * after + after + after * (time + 1) + 2 * after + 9 * after**2 + after
    return count + (before * after + after if before != after else 0)


def attention(width: int) -> int:
    return 2 * width + 3 * width * (width + 1) + width * (width + 1)


def test_the_published_network_has_the_parameters_of_its_layers():
    widths, total, width = (32, 64, 96, 128, 256, 256), 32 * 128 + 128 + 128 * 128 + 128 + 320, 32
    skips = [32]
    for i, after in enumerate(widths):
        for _ in range(2):
            total += block(width, after) + (attention(after) if i == 4 else 0)
            width = after
            skips.append(width)
        if i < 5:
            total += block(width, width)
            skips.append(width)
    total += 2 * block(width, width) + attention(width)
    for i, after in reversed(list(enumerate(widths))):
        for j in range(3):
            total += block(width + skips.pop(), after) + (attention(after) if i == 4 else 0)
            width = after
            total += block(width, width) if i > 0 and j == 2 else 0
    total += 2 * width + 9 * width + 1
    assert count_parameters(DISYRE, resolve(DISYRE.Config, "paper")) == total


def test_the_step_rises_with_the_degree():
    """The released training gives large degrees small steps, its sampler large ones."""
    method = DISYRE(DISYRE.Config())
    kept = np.cumprod(1 - np.linspace(1e-3, 0.2, 100))
    assert np.allclose(method.levels, np.sqrt(kept)[::-1])
    steps = method.step_of(torch.linspace(0, 1, 500))
    assert (steps[0], steps[-1]) == (0, 99)
    assert (steps.diff() >= 0).all()
    for t in (0, 13, 50, 99):
        assert method.step_of(torch.tensor([float(method.levels[t])], dtype=torch.float32)) == t


def test_a_degree_of_0_is_the_clean_slice_at_the_first_step():
    clean, foreign = torch.rand(3, 16, 16, generator=draws()), torch.rand(3, 16, 16, generator=draws(1))
    inside, nothing = torch.ones(3, 16, 16), torch.zeros(3)
    found, degree = Corruption(CLASSES).corrupted(clean, inside, foreign, inside > 0, nothing, nothing, draws())
    assert torch.equal(found, clean)
    assert torch.equal(degree, nothing)
    assert (DISYRE(DISYRE.Config()).step_of(degree) == 0).all()
    outside, degree = Corruption(CLASSES)(clean, inside < 0, foreign, inside > 0, draws())
    assert torch.equal(outside, clean)
    assert torch.equal(degree, nothing)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_only_the_organ_changes_and_the_degree_bounds_the_bias(seed):
    g = draws(seed)
    clean, foreign = torch.rand(2, 4, 32, 32, generator=g)
    organ, foreign_organ = torch.rand(2, 4, 32, 32, generator=g) < 0.7
    clean = clean * organ
    found, degree = Corruption(CLASSES, (4, 14), blur=2.0)(clean, organ, foreign * foreign_organ, foreign_organ, g)
    assert torch.equal(found[~organ], clean[~organ])
    assert ((degree >= 0) & (degree <= 1)).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert torch.equal(degree > 0, (found != clean).any(2).any(1))


def test_a_texture_takes_the_range_of_what_it_covers_and_its_weight_is_the_degree():
    g = draws()
    clean, foreign = 0.4 + 0.2 * torch.rand(2, 16, 16, generator=g), torch.rand(2, 16, 16, generator=g)
    mask = torch.zeros(2, 16, 16)
    mask[:, 4:12, 4:12] = 1
    weight = torch.tensor([1.0, 0.3])
    found, degree = Corruption(CLASSES).corrupted(clean, mask, foreign, mask >= 0, weight, torch.zeros(2), g)
    inside = mask > 0
    assert torch.allclose(degree, weight)
    for end in (torch.min, torch.max):
        assert end(found[0][inside[0]]).item() == pytest.approx(end(clean[0][inside[0]]).item(), abs=1e-5)
    expected = clean + 0.3 * (matched(foreign, clean, inside) - clean)
    assert torch.allclose(found[1][inside[1]], expected[1][inside[1]], atol=1e-6)
    assert torch.equal(found[~inside], clean[~inside])


def test_a_bias_shifts_whole_grey_classes_and_its_largest_change_is_the_degree():
    clean = torch.tensor([0.2, 0.5, 0.8]).repeat(8, 9, 3)
    mask, bias = torch.ones_like(clean), torch.full((8,), 0.1)
    corruption = Corruption(CLASSES, bias_blur=0.0)
    found, degree = corruption.corrupted(clean, mask, clean, mask > 0, torch.zeros(8), bias, draws(2))
    changed = found - clean
    for image, of_image, size in zip(changed, clean, degree, strict=True):
        for value in CLASSES:
            shift = image[of_image == value].unique()
            assert len(shift) == 1
            assert abs(shift.item()) == pytest.approx(0, abs=1e-6) or abs(shift.item()) == pytest.approx(0.1, abs=1e-6)
        assert size == pytest.approx(image.abs().max().item(), abs=1e-6)
    assert 0 < (changed.abs() > 0.05).float().mean() < 1
    assert {round(v, 3) for v in changed.flatten().tolist()} == {-0.1, 0.0, 0.1}


def test_shapes_lie_on_the_organ_and_have_the_sides_that_are_asked_for():
    organ = torch.zeros(200, 64, 64, dtype=torch.bool)
    organ[:, 20:40, 24:44] = True
    masks, centres = Corruption(CLASSES, (10, 20), blur_share=0.0).shapes(organ, draws())
    assert organ[torch.arange(200), centres[:, 0], centres[:, 1]].all()
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    heights, widths = (masks.amax(axis).sum(1) for axis in (2, 1))
    assert min(heights.min(), widths.min()) >= 8
    assert max(heights.max(), widths.max()) <= 20 * 1.6 + 2
    filled = masks.sum((1, 2)) / (heights * widths)
    assert filled.max() > 0.9  # rectangles
    assert filled.min() < 0.8  # ellipses
    soft, _ = Corruption(CLASSES, (10, 20), blur_share=1.0).shapes(organ, draws())
    assert ((soft > 0.05) & (soft < 0.95)).flatten(1).any(1).float().mean() > 0.9


def test_a_foreign_organ_is_moved_onto_the_place():
    images, organ = torch.zeros(1, 12, 12), torch.zeros(1, 12, 12, dtype=torch.bool)
    organ[0, 2, 3] = True
    images[0, 2, 3] = 0.7
    there, there_organ = moved_onto(images, organ, torch.tensor([[9, 6]]), draws())
    assert there[0, 9, 6] == pytest.approx(0.7)
    assert torch.nonzero(there_organ[0]).tolist() == [[9, 6]]
    assert random_pixels(organ, draws()).tolist() == [[2, 3]]


def test_smoothing_is_gaussian_and_0_leaves_images():
    from scipy.ndimage import gaussian_filter

    images = torch.rand(2, 32, 32, generator=draws())
    found = smoothed(images, torch.tensor([0.0, 1.5]))
    assert torch.equal(found[0], images[0])
    expected = gaussian_filter(images[1].numpy(), 1.5, mode="constant", truncate=10)
    assert np.allclose(found[1].numpy(), expected, atol=1e-4)


def test_augmentation_moves_slice_and_organ_alike_and_leaves_the_rest_black():
    organ = torch.zeros(64, 1, 32, 32)
    organ[:, :, 8:20, 10:28] = 1
    images, regions = augmented(0.5 * organ, organ, draws())
    assert not images[regions == 0].any()
    assert ((images >= 0) & (images <= 1)).all()
    assert (regions != organ).flatten(1).any(1).float().mean() > 0.5
    still = Motion(0, 0, 0, 1).matrices(3, 32, draws())
    assert torch.allclose(moved(organ[:3], still), organ[:3], atol=1e-5)
    mirror = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    assert torch.equal(moved(organ[:1], mirror, nearest=True), organ[:1].flip(-1))


@given(st.lists(st.floats(0, 1), min_size=8, max_size=60), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_means_of_grey_classes_are_the_means_of_the_values_nearest_to_them(values, count):
    found, array = k_means(np.array(values), count), np.array(values)
    assert (np.diff(found) >= -1e-12).all()
    if len(set(values)) == len(values) and len(set(found.round(9))) == count:
        edges = (found[1:] + found[:-1]) / 2
        nearest = np.searchsorted(edges, array)
        for i, mean in enumerate(found):
            if (nearest == i).any() and np.abs(edges[:, None] - array).min(initial=1) > 1e-9:
                assert array[nearest == i].mean() == pytest.approx(mean, abs=1e-6)


def test_grey_classes_are_those_of_the_organ(healthy):
    method = DISYRE(resolve(DISYRE.Config, "smoke"))
    stack = healthy.array(method.view)
    images, rois = stack.take(np.arange(len(stack)))
    found = grey_classes(stack, 3, np.random.default_rng(0))
    assert np.allclose(found, k_means(images[rois].astype(float), 3), atol=1e-6)
    assert images[rois].min() <= found[0] < found[-1] <= images[rois].max()


class Clean(torch.nn.Module):
    """Answers one grey value, plus a hundredth for each step."""

    def __init__(self, slope: float = 0.0):
        super().__init__()
        self.slope, self.seen = slope, []

    def forward(self, x, t):
        self.seen.append((x.clone(), int(t[0])))
        return torch.full_like(x, 0.5) + self.slope * t.view(-1, 1, 1, 1)


def square(value: float) -> tuple[np.ndarray, np.ndarray]:
    array, roi = np.zeros((2, 32, 32), np.float32), np.zeros((2, 32, 32), bool)
    roi[:, 8:24, 8:24] = True
    array[roi] = value
    return array, roi


def test_the_first_score_is_the_mean_change_over_evenly_spaced_steps(make_method):
    method = make_method(DISYRE)
    method.net = Clean(0.001)
    array, roi = square(0.7)
    map_ = method.score_view(array, roi, (1.0, 1.0, 1.0))
    steps = [t for _, t in method.net.seen]
    assert steps == [0, 25, 50, 74, 99]
    assert map_[0, 16, 16] == pytest.approx(np.mean([abs(0.2 - 0.001 * t) for t in steps]), rel=1e-4)
    assert not map_[~roi].any()


def test_the_other_score_follows_the_degrees_down_to_the_restoration(make_method):
    method = make_method(DISYRE, settings={"score": "restored", "calls": 4})
    method.net = Clean()
    array, roi = square(0.9)
    map_ = method.score_view(array, roi, (1.0, 1.0, 1.0))
    steps = [t for _, t in method.net.seen]
    assert steps == [99, 66, 33, 0]
    for x, t in method.net.seen:
        left = method.levels[t] / method.levels[99]
        assert x[0, 0, 8, 8].item() == pytest.approx(0.5 + left * 0.4, rel=1e-4)
    assert map_[0, 16, 16] == pytest.approx(0.4, rel=1e-4)


def test_the_loss_is_the_squared_error_to_the_clean_square_at_the_step_of_the_degree(make_method, healthy):
    method, losses = make_method(DISYRE, settings={"augment": False}), []

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias, self.seen = torch.nn.Parameter(torch.tensor(0.5)), []

        def forward(self, x, t):
            self.seen.append((x.clone(), t.clone()))
            return torch.zeros_like(x) + self.bias

    method.net = Spy()
    context = FitContext(seed=3, max_updates=1, on_log=lambda _, v: losses.append(v["mse"]))
    method.fit(healthy, context)
    again = FitContext(seed=3)
    clean, organ, corrupted, degree = method.batch_source(healthy.array(method.view), again)()
    seen, t = method.net.seen[0]
    assert torch.equal(seen, corrupted)
    assert torch.equal(t, method.step_of(degree))
    assert losses[0] == pytest.approx(((clean - 0.5) ** 2).mean().item(), rel=1e-5)
    assert not torch.equal(clean, corrupted)
    assert organ.shape == clean.shape
