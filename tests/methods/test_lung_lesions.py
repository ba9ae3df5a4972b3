"""The lung lesions equal a plain SciPy recipe in their statistics, and keep the rules of NormNet's generator."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation
from uasbench.methods.synthesis import lung_lesions
from uasbench.methods.synthesis import lung_lesions_torch as device_path
from uasbench.methods.synthesis.lung_lesions import LesionRecipe
from uasbench.methods.synthesis.volume_fields import Look, brightness_factor, filtered_salt

TOUCHING = np.ones((3, 3, 3), bool)
TAU = 1 / 3


def plain_texture(recipe, look, shape, rng):
    """Filtered salt of one box, one SciPy call per step."""
    field = ndimage.gaussian_filter(rng.random(shape), look.sigma_a)
    field = look.a_low + (look.a_high - look.a_low) * (field - field.min()) / (field.max() - field.min())
    probability = field if recipe.prob_map else recipe.plain_probability
    return ndimage.gaussian_filter((rng.random(shape) < probability).astype(float), look.sigma_b)


def plain_factor(look, texture):
    passed = texture[texture > 0.2]
    if not passed.size:
        passed = np.sort(texture.ravel())[-max(round(0.01 * texture.size), 1) :]
    return look.mu0 / passed.mean() if passed.mean() > 0 else None


def plain_look(rng):
    low, high = 0.0, 0.0
    while high - low <= 0.15:
        low, high = rng.uniform(0, 0.3, 2)
    sigma_b = rng.uniform(0.8, 2) if rng.random() < 0.7 else rng.uniform(2, 5)
    return look_of(sigma_a=rng.uniform(2, 20), a_low=low, a_high=high, sigma_b=sigma_b, mu0=rng.uniform(0.4, 0.8))


def look_of(**values):
    ours = {"sigma_a": 5.0, "a_low": 0.1, "a_high": 0.3, "sigma_b": 2.0, "mu0": 0.6, "mean_threshold": 0.2}
    return Look(**{**ours, **values})


def plain_ellipsoid(shape, centre, least, most, scale, rng):
    """Voxels of one deformed, turned ellipsoid, bool; radii uniform between ``least`` and ``most``."""
    radii = rng.uniform(least, most, 3)
    amplitude = rng.uniform(1, max(0.3 * radii.mean(), 1)) * scale
    sigma = rng.uniform(4, 8) * scale
    radii, turn = radii * scale, Rotation.random(random_state=rng).as_matrix()
    reach = np.ceil(np.sqrt(((turn * radii) ** 2).sum(axis=1)) + amplitude).astype(int)
    start, stop = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, shape)
    box = tuple(map(slice, start, stop))
    noise = rng.uniform(-1, 1, (3, *(stop - start)))
    field = np.stack([ndimage.gaussian_filter(n, sigma) for n in noise])
    field *= amplitude / np.abs(field).max()
    offset = np.stack(np.meshgrid(*map(np.arange, start, stop), indexing="ij")) - centre[:, None, None, None]
    unit = np.tensordot(turn.T, offset + field, 1) / radii[:, None, None, None]
    mask = np.zeros(shape, bool)
    mask[box] = (unit**2).sum(axis=0) <= 1
    return mask


def plain_merge(masks):
    """Components of the union; parts of one torn blob stay together."""
    labels, found = ndimage.label(np.any(masks, axis=0), TOUCHING)
    same = np.arange(found + 1)
    for mask in masks:
        parts = np.unique(same[labels[mask]])
        same[np.isin(same, parts)] = parts.min() if parts.size else 0
    return same[labels]


def plain_generator(image, roi, fullness, rng, scale=1.0, extent="box"):
    """The whole recipe in NumPy and SciPy; returns image and blobs."""
    classes = [((3, 10), (5, 10)), ((10, 32), (5, 10))]
    radii = [r for r, count in classes for _ in range(round(rng.uniform(*count) * fullness))]
    radii += [(32, 64)] if rng.random() < 0.2 * fullness else []
    voxels = np.argwhere(roi)
    masks = [plain_ellipsoid(image.shape, voxels[rng.integers(len(voxels))], *r, scale, rng) for r in radii]
    out, blobs = image.copy(), np.zeros(image.shape, bool)
    labels = plain_merge(masks) if masks else np.zeros(image.shape, int)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        look, box = plain_look(rng), box if extent == "box" else (slice(None),) * 3
        texture = plain_texture(LesionRecipe(), look, image[box].shape, rng)
        factor = plain_factor(look, texture)
        if factor is not None:
            inside = (labels[box] == label) & roi[box]
            lesion = np.clip(factor * texture, 0, 1)
            out[box] = np.where(inside, np.maximum(out[box], lesion), out[box])
            blobs[box] |= inside
    return out, blobs


def cylinder(shape, share=0.45):
    """An elliptic ROI over the whole depth."""
    y, x = np.ogrid[: shape[1], : shape[2]]
    inside = ((y / shape[1] - 0.5) ** 2 + (x / shape[2] - 0.5) ** 2) < share**2
    return np.repeat(inside[None], shape[0], axis=0)


def crop_figures(lesions, blobs, roi):
    """Blob count, share of the ROI, median size, mean, spread and bright share of the blobs of one crop."""
    labels, found = ndimage.label(blobs, TOUCHING)
    index = np.arange(1, found + 1)
    sizes = ndimage.sum_labels(blobs, labels, index)
    means = ndimage.mean(lesions, labels, index)
    spreads = ndimage.standard_deviation(lesions, labels, index)
    bright = ndimage.mean(lesions >= TAU, labels, index)
    return [found, blobs.sum() / roi.sum(), np.log(sizes).mean(), means.mean(), spreads.mean(), bright.mean()]


def assert_same_means(ours, reference, paired=False):
    """Means agree within four standard errors of their difference."""
    ours, reference = np.array(ours, float), np.array(reference, float)
    drawn = (ours - reference,) if paired else (ours, reference)
    variances = sum(a.var(axis=0, ddof=1) / len(a) for a in drawn)
    difference = ours.mean(axis=0) - reference.mean(axis=0)
    assert (np.abs(difference) <= 4 * np.sqrt(variances)).all(), (difference, variances)


def texture_figures(look, texture):
    lesion = np.clip(plain_factor(look, texture) * texture, 0, 1)
    return [plain_factor(look, texture), lesion.mean(), lesion.std(), (lesion >= TAU).mean()]


def device_textures(looks, shape, generator):
    """Filtered salt of equal boxes from the device path, in batches of ten."""
    size = (shape[0], max(shape[1:]), max(shape[1:]))
    for first in range(0, len(looks), 10):
        part = looks[first : first + 10]
        textures, _ = device_path.filtered_salt(part, np.tile(shape, (len(part), 1)), size, generator)
        yield from textures.cpu().numpy()[:, : shape[0], : shape[1], : shape[2]]


@pytest.mark.parametrize(("shape", "draws"), [((12, 40, 36), 150), ((7, 8, 9), 300)])
def test_textures_have_the_statistics_of_the_plain_recipe(shape, draws):
    recipe, rng = LesionRecipe(), np.random.default_rng(0)
    looks = [recipe.draw_look(rng) for _ in range(draws)]
    plain = [texture_figures(k, plain_texture(recipe, k, shape, rng)) for k in looks]
    ours = [texture_figures(k, filtered_salt(k, shape, rng)) for k in looks]
    tensors = device_textures(looks, shape, torch.Generator().manual_seed(1))
    assert_same_means(ours, plain, paired=True)
    assert_same_means([texture_figures(k, t) for k, t in zip(looks, tensors, strict=True)], plain, paired=True)


def compare_generators(shape, scale, draws, paths, extent="box"):
    recipe, rng = LesionRecipe(radius_scale=scale, texture_extent=extent), np.random.default_rng(0)
    image, roi = np.zeros(shape, np.float32), cylinder(shape)
    fullness = rng.uniform(0.4, 1, draws)
    plain = [crop_figures(*plain_generator(image, roi, k, rng, scale, extent), roi) for k in fullness]
    for path in paths:
        drawn = [path(recipe, image, roi, k) for k in fullness]
        assert_same_means([crop_figures(a, blobs, roi) for a, blobs in drawn], plain)


def compiled_path(seed):
    rng = np.random.default_rng(seed)

    def draw(recipe, image, roi, fullness):
        return [a[0] for a in lung_lesions.generate(recipe, image[None], roi[None], np.array([fullness]), rng)]

    return draw


def tensor_path(seed, device="cpu"):
    generator = torch.Generator(device).manual_seed(seed)

    def draw(recipe, image, roi, fullness):
        tensors = [torch.from_numpy(a)[None].to(device) for a in (image, roi)]
        drawn = device_path.generate(recipe, *tensors, torch.tensor([fullness]), generator)
        return [a[0].cpu().numpy() for a in drawn]

    return draw


@pytest.mark.parametrize(
    ("shape", "scale", "draws", "extent"),
    [
        ((12, 80, 80), 0.35, 40, "box"),
        pytest.param((32, 112, 112), 0.8, 24, "box", marks=pytest.mark.slow),
        pytest.param((12, 64, 64), 0.3, 24, "crop", marks=pytest.mark.slow),
    ],
)
def test_generator_has_the_statistics_of_the_plain_recipe(shape, scale, draws, extent):
    compare_generators(shape, scale, draws, [compiled_path(1), tensor_path(1)], extent)


@pytest.mark.gpu
def test_device_path_on_a_gpu():
    compare_generators((12, 80, 80), 0.35, 60, [tensor_path(1, "cuda")])
    first, again = (tensor_path(2, "cuda")(LesionRecipe(), *empty_crop((32, 256, 256)), 1.0) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def empty_crop(shape):
    return np.zeros(shape, np.float32), cylinder(shape)


def random_crop(shape, seed):
    image, roi = np.random.default_rng(seed).random(shape, np.float32), cylinder(shape)
    return np.where(roi, image, 0).astype(np.float32), roi


@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(8, 20), st.integers(32, 60), st.integers(32, 60)),
    fullness=st.floats(0, 1),
    scale=st.sampled_from([0.25, 0.5, 1.0]),
    path=st.sampled_from([compiled_path, tensor_path]),
    extent=st.sampled_from(["box", "crop"]),
)
def test_lesions_only_brighten_and_stay_in_their_blobs(seed, shape, fullness, scale, path, extent):
    image, roi = random_crop(shape, seed)
    augmented, blobs = path(seed)(LesionRecipe(radius_scale=scale, texture_extent=extent), image, roi, fullness)
    assert augmented.dtype == np.float32
    assert blobs.dtype == bool
    assert (augmented >= image).all()
    assert np.array_equal(augmented[~blobs], image[~blobs])
    assert not (blobs & ~roi).any()
    assert augmented.max() <= 1


@pytest.mark.parametrize("extent", ["box", "crop"])
@pytest.mark.parametrize("path", [compiled_path, tensor_path])
def test_same_seed_same_lesions_other_seed_other_lesions(path, extent):
    crop, recipe = random_crop((12, 64, 64), 0), LesionRecipe(radius_scale=0.4, texture_extent=extent)
    first, again, other = (path(seed)(recipe, *crop, 1.0)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_batch_equals_its_crops_drawn_one_after_the_other():
    crops = [random_crop((8, 48, 48), k) for k in range(3)]
    images, rois = (np.stack(part) for part in zip(*crops, strict=True))
    recipe, single = LesionRecipe(radius_scale=0.4), compiled_path(7)
    together = lung_lesions.generate(recipe, images, rois, np.array([1, 0.5, 0.7]), np.random.default_rng(7))
    for k, fullness in enumerate((1, 0.5, 0.7)):
        drawn = single(recipe, images[k], rois[k], fullness)
        assert all(np.array_equal(part[k], one) for part, one in zip(together, drawn, strict=True))


def test_looks_follow_the_recipe():
    rng = np.random.default_rng(0)
    looks, plain = [[draw(rng) for _ in range(4000)] for draw in (LesionRecipe().draw_look, plain_look)]
    columns = ("sigma_a", "a_low", "a_high", "sigma_b", "mu0")
    ours, reference = (np.array([[getattr(k, c) for c in columns] for k in ks]) for ks in (looks, plain))
    assert_same_means(ours, reference)
    assert_same_means(ours**2, reference**2)
    assert (ours[:, 2] - ours[:, 1] >= 0.15).all()
    assert ours[:, 2].max() <= 0.3


def test_factors_are_those_of_voxels_above_the_threshold_or_of_the_brightest_and_none_without_salt():
    texture = np.linspace(0, 0.4, 1000, dtype=np.float32).reshape(10, 10, 10)
    assert brightness_factor(look_of(), texture) == pytest.approx(plain_factor(look_of(), texture))
    dim = texture * np.float32(0.375)
    expected = 0.6 / np.sort(dim.ravel())[-10:].mean()
    dark = np.zeros_like(dim)
    assert brightness_factor(look_of(), dim) == pytest.approx(expected, rel=1e-5)
    assert brightness_factor(look_of(), dark) is None
    both = torch.from_numpy(np.stack([dim, dark]))
    on_device = device_path.brightness_factors([look_of()] * 2, both, torch.ones_like(both) > 0)
    assert on_device[0].item() == pytest.approx(expected, rel=1e-5)
    assert on_device[1].isnan()


@pytest.mark.parametrize("path", [compiled_path, tensor_path])
def test_crops_without_roi_fullness_or_salt_stay_as_they_are(path):
    image, roi = random_crop((8, 40, 40), 0)
    saltless = LesionRecipe(prob_map=False, plain_probability=0.0)
    for recipe, where, fullness in (
        (LesionRecipe(), np.zeros_like(roi), 1.0),
        (LesionRecipe(), roi, 0.0),
        (saltless, roi, 1.0),
    ):
        augmented, blobs = path(0)(recipe, image, where, fullness)
        assert np.array_equal(augmented, image)
        assert not blobs.any()
    images, rois = torch.rand(3, 8, 48, 48), torch.ones(3, 8, 48, 48, dtype=torch.bool)
    rois[1] = False  # one crop of a batch
    draws = torch.Generator().manual_seed(0)
    augmented, blobs = device_path.generate(LesionRecipe(radius_scale=0.3), images, rois, torch.ones(3), draws)
    assert torch.equal(augmented[1], images[1])
    assert blobs.flatten(1).any(dim=1).tolist() == [True, False, True]


@pytest.mark.parametrize("path", [compiled_path, tensor_path])
def test_plain_shapes_are_five_balls_for_any_fullness(path):
    image, roi = empty_crop((32, 300, 300))
    recipe = LesionRecipe(shapes="plain", radius_scale=0.5)
    ball = sum(z * z + y * y + x * x <= 36 for z, y, x in product(range(-6, 7), repeat=3))
    sizes = [path(seed)(recipe, image, np.ones_like(roi), 0.1)[1].sum() for seed in range(4)]
    assert max(sizes) <= 5 * ball
    assert np.median(sizes) > 3 * ball


def test_without_probability_map_the_salt_has_one_density():
    recipe, rng = LesionRecipe(prob_map=False), np.random.default_rng(0)
    look = recipe.draw_look(rng)
    assert look.a_low == look.a_high == 0.2
    assert filtered_salt(look, (20, 60, 60), rng).mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("extent", ["box", "crop"])
def test_without_salt_diversity_all_blobs_of_a_crop_share_one_texture(extent, monkeypatch):
    recipe = LesionRecipe(salt_noise=False, radius_scale=0.3, texture_extent=extent)
    looks, draw_look = [], LesionRecipe.draw_look
    monkeypatch.setattr(LesionRecipe, "draw_look", lambda *args: looks.append(draw_look(*args)) or looks[-1])
    _, blobs = compiled_path(0)(recipe, *empty_crop((12, 80, 80)), 1.0)
    assert ndimage.label(blobs, TOUCHING)[1] > 1
    (look,) = looks
    assert (look.sigma_b, look.mu0) == (2.0, 150 / 255)


def test_inputs_that_do_not_fit_together_are_refused():
    image, roi = random_crop((8, 32, 32), 0)
    for said, *inputs in (("expected", roi[:4], 1.0), ("negative", roi, -0.1)):
        with pytest.raises(ValueError, match=said):
            compiled_path(0)(LesionRecipe(), image, *inputs)
    crops = torch.zeros(2, 8, 32, 32)
    with pytest.raises(ValueError, match="expected"):
        device_path.generate(LesionRecipe(), crops, crops > 0, torch.ones(1), None)
