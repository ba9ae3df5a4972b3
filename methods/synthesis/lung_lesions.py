"""Synthetic lung lesions: random blobs filled with filtered salt noise (Yao et al. 2021, §III-C), on one core."""

import numpy as np

from . import volume_kernels as kernels
from .lesion_recipe import LesionRecipe, check
from .lung_shapes import Blobs, draw_ellipsoids, paint_blobs
from .random_places import random_voxels
from .salt_texture import brightness_factor, filtered_salt


def generate(
    recipe: LesionRecipe, images: np.ndarray, rois: np.ndarray, fullness: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a batch of crops with lesions, float32, and the voxels of their blobs, bool.

    The lesions only ever brighten: the result is the maximum of image and textures (their eq. 9). Ellipsoids are
    placed on random ROI voxels, cut at the ends of the crop, merged where they touch (26 neighbours), and limited to
    the ROI at the end. A crop without ROI comes back unchanged.

    Args:
        images: float32 (n, z, y, x) in [0, 1].
        rois: bool, same shape.
        fullness: λ of each crop, (n,): ROI voxels of this crop over those of the fullest crop.

    Raises:
        ValueError: shapes differ, or ``fullness`` is negative.
    """
    check(images.shape, rois.shape, fullness)
    augmented = np.array(images, np.float32, order="C")
    masks = np.zeros(augmented.shape, np.bool_)
    crops = zip(augmented, masks, np.ascontiguousarray(rois, np.bool_), np.asarray(fullness, float), strict=True)
    for image, mask, roi, share in crops:
        blobs = _shapes(recipe, roi, share, rng)
        for which in range(len(blobs.start)):
            _fill(recipe, blobs, which, roi, image, mask, rng)
    return augmented, masks


def _shapes(recipe: LesionRecipe, roi: np.ndarray, fullness: float, rng: np.random.Generator) -> Blobs:
    ellipsoids = draw_ellipsoids(recipe, rng, fullness)
    picks = rng.random(len(ellipsoids))
    if not len(ellipsoids) or not roi.any():
        none = np.zeros((0, 3), np.int64)
        return Blobs(np.zeros(roi.shape, np.uint16), np.array([-1]), none, none)
    centres = random_voxels(roi, picks)
    return paint_blobs(ellipsoids, centres, roi.shape, rng, merge_all=not recipe.salt_noise)


def _fill(
    recipe: LesionRecipe,
    blobs: Blobs,
    which: int,
    roi: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Draw the texture of one merged blob and put it in place, where there is salt and ROI."""
    start, stop = blobs.start[which], blobs.stop[which]
    box = tuple(map(slice, start, stop))
    if not roi[box].any():
        return
    whole = recipe.texture_extent == "crop"
    look = recipe.draw_look(rng)
    texture = filtered_salt(recipe.salt, look, roi.shape if whole else tuple(stop - start), rng)
    beta = brightness_factor(recipe.salt, look, texture)
    if beta is not None:
        part = texture[box] if whole else texture
        kernels.inject(part, beta, start, blobs.component, which, blobs.owner, roi, image, mask)
