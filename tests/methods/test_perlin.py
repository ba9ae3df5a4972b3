"""Perlin masks and blended textures."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from uasbench.methods.synthesis.textures import (
    OPERATIONS,
    BlendedTextures,
    augment,
    perlin_noise,
    rotate,
    to_all,
    to_chosen,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slices(count, size=64, value=100):
    y, x = np.ogrid[:size, :size]
    inside = torch.from_numpy((y - size / 2) ** 2 + (x - size / 2) ** 2 <= (0.45 * size) ** 2)
    rois = inside.expand(count, size, size).contiguous()
    return rois.to(torch.uint8) * value, rois


def test_noise_is_bounded_centred_reproducible_and_smooth_between_the_zeros_of_its_lattice():
    noise = perlin_noise(200, 64, generator())
    assert noise.shape == (200, 64, 64)
    assert noise.abs().max() <= 1 + 1e-5
    assert abs(noise.mean()) < 0.02
    assert torch.equal(noise, perlin_noise(200, 64, generator()))
    assert not torch.equal(noise, perlin_noise(200, 64, generator(1)))
    noise = perlin_noise(50, 255, generator(), octaves=0, max_angle=0.0)
    assert noise.diff(dim=2).abs().max() < 0.05
    assert noise[:, [0, 0, -1, -1], [0, -1, 0, -1]].abs().max() < 0.02


def test_turning_brings_in_zeros_and_more_octaves_make_smaller_blobs():
    straight, turned = (perlin_noise(40, 64, generator(), max_angle=a) for a in (0.0, 90.0))
    assert (straight[:, 0, 0] != 0).float().mean() > 0.9
    assert (turned[:, 0, 0] == 0).float().mean() > 0.5
    coarse, fine = (perlin_noise(100, 64, generator(), octaves=o, max_angle=0.0) for o in (0, 5))
    assert fine.diff(dim=2).abs().mean() > 3 * coarse.diff(dim=2).abs().mean()


def test_rotation_by_a_right_angle_permutes_pixels():
    image = torch.rand(1, 8, 8)
    turned = rotate(image, torch.tensor([np.pi / 2], dtype=torch.float32))
    candidates = [torch.rot90(image, k, (1, 2)) for k in (1, 3)]
    assert any(torch.allclose(turned, c, atol=1e-5) for c in candidates)


@given(seed=st.integers(0, 2**31), source=st.sampled_from(["perlin", "healthy"]))
def test_slices_change_only_inside_masks_that_lie_in_the_roi(seed, source):
    images, rois = slices(8)
    blend = BlendedTextures(64, generator(seed), source=source, other_slices=lambda n: slices(n, value=160))
    augmented, masks = blend(images, rois)
    clean = images.float() / 255
    assert augmented.shape == masks.shape == images.shape
    assert torch.equal(augmented[~masks], clean[~masks])
    assert not (masks & ~rois).any()
    assert 0 <= augmented.min() <= augmented.max() <= 1


def test_half_of_the_slices_get_no_anomaly():
    images, rois = slices(300)
    _, masks = BlendedTextures(64, generator())(images, rois)
    some = masks.any(dim=2).any(dim=1).float().mean()
    _, always = BlendedTextures(64, generator(), p_none=0.0)(images, rois)
    reachable = always.any(dim=2).any(dim=1).float().mean()
    assert abs(some - 0.5 * reachable) < 0.08
    _, never = BlendedTextures(64, generator(), p_none=1.0)(images, rois)
    assert not never.any()


def test_the_image_keeps_at_most_four_fifths_of_a_blend():
    images, rois = slices(300, value=255)
    blend = BlendedTextures(64, generator(), source="healthy", p_none=0.0, other_slices=lambda n: slices(n, value=1))
    augmented, masks = blend(images, rois)
    kept = augmented[masks]
    assert kept.max() <= 0.8 + 0.2 * 1.5 / 255 + 1e-6
    assert kept.min() < 0.1


def test_a_healthy_texture_is_scaled_and_covers_what_lies_outside_the_other_roi():
    def nearly_empty(count):
        images, rois = slices(count, value=100)
        rois[:] = False
        rois[:, 32, 32] = True
        return images * rois, rois

    images, rois = slices(200, value=100)
    settings_ = {"source": "healthy", "p_none": 0.0, "max_image_share": 0.0}
    augmented, masks = BlendedTextures(64, generator(), other_slices=nearly_empty, **settings_)(images, rois)
    values = augmented[masks] * 255
    assert 50 - 1e-3 <= values.min() < 60
    assert 140 < values.max() <= 150 + 1e-3


def test_healthy_texture_needs_slices():
    with pytest.raises(ValueError, match="other_slices"):
        BlendedTextures(64, generator(), source="healthy")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_keeps_shape_and_numbers_finite(operation):
    textures = torch.rand(4, 16, 16, generator=generator(3))
    textures[0] = 0
    changed = operation(textures, generator())
    assert changed.shape == textures.shape
    assert torch.isfinite(changed).all()


def test_posterising_keeps_one_to_eight_bits_as_pillow_does():
    from PIL import Image, ImageOps

    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    wanted = {np.asarray(ImageOps.posterize(ramp, bits)).tobytes() for bits in range(1, 9)}
    textures = (torch.arange(256) / 255).expand(200, 1, 256)
    found = (OPERATIONS[5](textures, generator()) * 255).round().to(torch.uint8).numpy()
    assert {row.tobytes() for row in found} == wanted


def test_textures_are_augmented_differently():
    textures = torch.rand(1, 16, 16, generator=generator()).expand(30, 16, 16).contiguous()
    changed = augment(textures, generator())
    assert 0 <= changed.min() <= changed.max() <= 1
    assert len({tuple(t.flatten()[:8].tolist()) for t in changed}) > 25


def test_an_accelerator_applies_the_same_operations():
    field = perlin_noise(40, 32, generator()).clamp(0, 1)
    certain = [n for n, op in enumerate(OPERATIONS) if torch.equal(op(field, generator(0)), op(field, generator(1)))]
    assert len(certain) >= 4
    numbers = torch.tensor(certain).repeat(40)[:40]
    assert torch.equal(to_chosen(field, numbers, generator()), to_all(field, numbers, generator()))
    for number in set(range(len(OPERATIONS))) - set(certain):  # the same range of changes, drawn in another order
        numbers = torch.full((40,), number)
        one, other = (apply(field, numbers, generator()) for apply in (to_chosen, to_all))
        assert (one - field).abs().mean() == pytest.approx(float((other - field).abs().mean()), rel=0.5)
