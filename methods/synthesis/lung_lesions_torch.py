"""The lung lesions as batched tensor code, for training on an accelerator.

Ellipsoids and textures of all crops are computed in batches of boxes of similar size. A Gaussian filter is one matrix
per box and axis. The numbers of each lesion are drawn on the host, the noise on the device.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from .lung_lesions import Ellipsoids, LesionRecipe, check, draw_ellipsoids, merge
from .volume_fields import TRUNCATE, Look

BATCH_VOXELS = 1 << 25
SMALLEST_SIDE = 16
DOUBLE_SIDE = 64
HALF_NEIGHBOURS = [offset for offset in product((-1, 0, 1), repeat=3) if offset >= (0, 0, 0)]


def generate(
    recipe: LesionRecipe, images: torch.Tensor, rois: torch.Tensor, fullness: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch of crops with lesions, float32, and the voxels of their blobs, bool, on the images' device.

    Arguments are those of :func:`.lung_lesions.generate` as tensors; the generator's state alone decides what is drawn.
    """
    check(tuple(images.shape), tuple(rois.shape), fullness)
    augmented = images.to(torch.float32, copy=True)
    masks = torch.zeros_like(rois, dtype=torch.bool)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        seed = torch.randint(1 << 62, (1,), generator=generator, device=images.device).item()
        rng = np.random.default_rng(int(seed))
        blobs = shapes(recipe, rois, fullness.cpu().numpy(), rng, generator)
        if len(blobs.crop):
            _fill(recipe, blobs, rois, rng, generator, augmented, masks)
    return augmented, masks


@dataclass(frozen=True, eq=False)
class DeviceBlobs:
    """The merged blobs of a batch.

    Attributes:
        owner: int32 (n, z + 2, y + 2, x + 2), label of an ellipsoid that covers the voxel; crops have a margin of 1.
        component: int64, merged blob of each label, on the device; −1 for label 0.
        crop: int64 (m,), crop of each merged blob.
        start, stop: int64 (m, 3), box of each merged blob in its crop, ends exclusive.
    """

    owner: torch.Tensor
    component: torch.Tensor
    crop: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def shapes(
    recipe: LesionRecipe, rois: torch.Tensor, fullness: np.ndarray, rng: np.random.Generator, generator: torch.Generator
) -> DeviceBlobs:
    """Draw, place and merge the ellipsoids of a batch of crops.

    ``rois`` is bool (n, z, y, x), ``fullness`` λ, float (n,); numbers come from ``rng``, noise from ``generator``.
    """
    device, (count, depth, height, width) = rois.device, rois.shape
    drawn = [draw_ellipsoids(recipe, rng, float(share)) for share in fullness]
    crop = np.repeat(np.arange(count), [len(d) for d in drawn])
    ellipsoids, picks = Ellipsoids.joined(drawn), rng.random(len(crop))
    centres = random_voxels(rois, torch.from_numpy(crop).to(device), torch.from_numpy(picks).to(device)).cpu().numpy()
    placed = centres[:, 0] >= 0
    crop, centres, ellipsoids = crop[placed], centres[placed], ellipsoids[placed]
    owner = torch.zeros((count, depth + 2, height + 2, width + 2), dtype=torch.int32, device=device)
    if not len(crop):
        none = np.zeros((0, 3), np.int64)
        return DeviceBlobs(owner, torch.full((1,), -1, device=device), crop, none, none)
    label, z, y, x = painted_voxels(ellipsoids, centres, (depth, height, width), generator)
    strides = torch.tensor(owner.stride(), device=device)
    at = (torch.stack([torch.from_numpy(crop).to(device)[label], z + 1, y + 1, x + 1], 1) * strides).sum(1)
    flat = owner.view(-1)
    flat.scatter_reduce_(0, at, (label + 1).int(), "amax")
    touching = torch.zeros((len(crop), len(crop) + 1), dtype=torch.bool, device=device)
    for offset in HALF_NEIGHBOURS:
        shift = int(sum(o * s for o, s in zip(offset, owner.stride()[1:], strict=True)))
        touching[label, flat[at + shift].long()] = True
    voxels = torch.stack([z, y, x], 1)
    index = label[:, None].expand(-1, 3)
    lows = torch.full((len(crop), 3), 1 << 30, device=device).scatter_reduce_(0, index, voxels, "amin")
    highs = torch.full((len(crop), 3), -1, device=device).scatter_reduce_(0, index, voxels, "amax")
    one_texture = (crop[:, None] == crop) & (not recipe.salt_noise)
    component, start, stop = merge(
        touching[:, 1:].cpu().numpy() | one_texture, lows.cpu().numpy(), highs.cpu().numpy() + 1
    )
    first = [int(np.argmax(component[1:] == which)) for which in range(len(start))]
    return DeviceBlobs(owner, torch.from_numpy(component).to(device), crop[first], start, stop)


def random_voxels(rois: torch.Tensor, crop: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
    """Return the ROI voxels of the given crops at the shares ``picks`` of their volumes, int64 (m, 3).

    ``rois`` is bool (n, z, y, x), ``crop`` int64 (m,), ``picks`` float64 (m,) in 0 … 1; −1 where a crop has no ROI.
    """
    height = rois.shape[2]
    rows = rois.sum(dim=3).flatten(1).cumsum(1)
    total = rows[:, -1][crop]
    wanted = torch.minimum((picks * total).long(), (total - 1).clamp(min=0))
    row = (rows[crop] <= wanted[:, None]).sum(dim=1).clamp(max=rows.shape[1] - 1)
    before = torch.where(row > 0, rows[crop, (row - 1).clamp(min=0)], 0)
    z, y = row // height, row % height
    reached = rois[crop, z, y].cumsum(1) > (wanted - before)[:, None]
    x = reached.int().argmax(dim=1)
    return torch.where((total > 0)[:, None], torch.stack([z, y, x], 1), -1)


def painted_voxels(
    ellipsoids: Ellipsoids, centres: np.ndarray, shape: tuple[int, int, int], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return index of the ellipsoid, z, y and x of all voxels of all deformed ellipsoids, int64."""
    device, found = generator.device, []
    starts, stops = ellipsoids.boxes(centres, shape)
    to_unit = ellipsoids.to_unit
    for which, size in _batches(stops - starts, 3):
        part, lengths = ellipsoids[which], (stops - starts)[which]
        grid = _grid(size, device)
        place = grid + _column(starts[which] - centres[which], device).float()
        inside = (grid < _column(lengths, device)).all(dim=1)
        if part.amplitude.any():
            noise = torch.rand((len(which), 3, *size), generator=generator, device=device) - 0.5
            field = filtered(noise, lengths, np.repeat(part.sigma[:, None], 3, 1)) * inside[:, None]
            largest = field.abs().amax(dim=(1, 2, 3, 4), keepdim=True)
            place += field * (torch.from_numpy(part.amplitude).to(device).float()[:, None, None, None, None] / largest)
        unit = torch.einsum("kab,kbzyx->kazyx", torch.from_numpy(to_unit[which]).to(device).float(), place)
        voxels = torch.nonzero(((unit**2).sum(dim=1) <= 1) & inside)
        origin = torch.from_numpy(np.column_stack([which, starts[which]])).to(device)[voxels[:, 0]]
        found.append(torch.column_stack([origin[:, 0], origin[:, 1:] + voxels[:, 1:]]))
    label, z, y, x = torch.cat(found).unbind(1)
    return label, z, y, x


def _fill(
    recipe: LesionRecipe,
    blobs: DeviceBlobs,
    rois: torch.Tensor,
    rng: np.random.Generator,
    generator: torch.Generator,
    augmented: torch.Tensor,
    masks: torch.Tensor,
) -> None:
    """Draw the textures of the merged blobs and put them in place."""
    looks = [recipe.draw_look(rng) for _ in blobs.crop]
    whole = recipe.texture_extent == "crop"
    extents = np.tile(rois.shape[1:], (len(looks), 1)) if whole else blobs.stop - blobs.start
    for which, size in _batches(extents, 1):
        part = [looks[i] for i in which]
        texture, inside = filtered_salt(part, extents[which], size, generator)
        beta = brightness_factors(part, texture, inside)
        texture = (texture * beta.nan_to_num(0)[:, None, None, None]).clamp_(max=1)
        for k, blob in enumerate(which):
            (z0, y0, x0), (z1, y1, x1) = blobs.start[blob].tolist(), blobs.stop[blob].tolist()
            box = (int(blobs.crop[blob]), slice(z0, z1), slice(y0, y1), slice(x0, x1))
            owner = blobs.owner[box[0], z0 + 1 : z1 + 1, y0 + 1 : y1 + 1, x0 + 1 : x1 + 1]
            member = (blobs.component[owner.long()] == int(blob)) & rois[box] & (beta[k] > 0)
            first = (z0, y0, x0) if whole else (0, 0, 0)
            look = texture[k][tuple(slice(f, f + n) for f, n in zip(first, owner.shape, strict=True))]
            augmented[box] = torch.where(member, torch.maximum(augmented[box], look), augmented[box])
            masks[box] |= member


def filtered_salt(
    looks: list[Look], lengths: np.ndarray, size: tuple[int, int, int], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return filtered salt, float32, and the voxels of each box, bool; both (k, *size), padded with zeros.

    The looks are of one recipe; boxes of ``lengths``, int64 (k, 3), are padded to the common ``size``.
    """
    device = generator.device
    inside = (_grid(size, device) < _column(lengths, device)).all(dim=1)
    probability: torch.Tensor | float | None = looks[0].probability
    if probability is None:
        # Where σ exceeds a short axis, the filter leaves differences of 1e-5 that rounding must not swamp.
        dtype = torch.float64 if size[1] <= DOUBLE_SIDE else torch.float32
        noise = torch.rand((len(looks), 1, *size), generator=generator, device=device, dtype=dtype) - 0.5
        field = filtered(noise, lengths, np.array([[k.sigma_a] * 3 for k in looks]))[:, 0]
        low = field.masked_fill(~inside, math.inf).amin(dim=(1, 2, 3), keepdim=True)
        high = field.masked_fill(~inside, -math.inf).amax(dim=(1, 2, 3), keepdim=True)
        ends = torch.tensor([(k.a_low, k.a_high) for k in looks], device=device, dtype=dtype)
        a_low, a_high = ends.T[..., None, None, None]
        probability = (field - low) * ((a_high - a_low) / (high - low).clamp(min=torch.finfo(dtype).tiny)) + a_low
    drawn = torch.rand((len(looks), *size), generator=generator, device=device)
    salt = ((drawn < probability) & inside).float()
    return filtered(salt[:, None], lengths, np.array([[k.sigma_b] * 3 for k in looks]))[:, 0], inside


def brightness_factors(looks: list[Look], texture: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return β of each box, float32 (k,), NaN where a box has no salt; see ``brightness_factor``."""
    above = (texture > looks[0].mean_threshold) & inside
    count, total = above.sum(dim=(1, 2, 3)), (texture * above).sum(dim=(1, 2, 3))
    for k in torch.nonzero(count == 0)[:, 0].tolist():
        values = texture[k][inside[k]]
        brightest = values.topk(max(round(looks[0].guard_share * len(values)), 1)).values
        count[k], total[k] = len(brightest), brightest.sum()
    mu0 = torch.tensor([k.mu0 for k in looks], device=texture.device)
    return torch.where(total > 0, mu0 * count / total, math.nan)


def filtered(volumes: torch.Tensor, lengths: np.ndarray, sigma: np.ndarray) -> torch.Tensor:
    """Gaussian-filter padded boxes, mirrored about the edges of each box (SciPy's ``reflect``).

    Boxes of ``lengths``, int64 (k, 3), lie in the low corner of ``volumes``, float (k, channels, z, y, x); what lies
    behind them does not count and becomes 0. ``sigma`` is float64 (k, 3), in voxels.
    """
    for axis, rule in enumerate(("kab,kcbyx->kcayx", "kab,kczbx->kczax", "kab,kczyb->kczya")):
        matrices = gaussian_matrices(lengths[:, axis], sigma[:, axis], volumes.shape[2 + axis], volumes)
        volumes = torch.einsum(rule, matrices, volumes)
    return volumes


def gaussian_matrices(lengths: np.ndarray, sigma: np.ndarray, side: int, like: torch.Tensor) -> torch.Tensor:
    """Return the Gaussian filters of axes of the given ``lengths``, mirrored ends folded in, (k, side, side)."""
    folds = int(np.max((TRUNCATE * sigma + 1) / (2 * lengths))) + 1
    n = torch.from_numpy(lengths).to(like.device)[:, None, None]
    width = torch.from_numpy(sigma).to(like.device)[:, None, None]
    radius = torch.floor(TRUNCATE * width + 0.5)
    i, j = torch.arange(side, device=like.device)[:, None], torch.arange(side, device=like.device)[None]
    total = torch.zeros((len(lengths), side, side), device=like.device, dtype=like.dtype)
    for fold in range(-folds, folds + 1):
        for distance in (i - j - 2 * n * fold, i + j + 1 - 2 * n * fold):
            total += torch.exp(-0.5 * (distance / width) ** 2) * (distance.abs() <= radius)
    total *= (i < n) & (j < n)
    return total / total.sum(dim=2, keepdim=True).clamp(min=torch.finfo(like.dtype).tiny)


def _batches(lengths: np.ndarray, channels: int) -> Iterator[tuple[np.ndarray, tuple[int, int, int]]]:
    """Yield indices of boxes of similar size and the size that holds them all."""
    longest = lengths[:, 1:].max(axis=1)
    rank = np.ceil(np.log2(np.maximum(longest, SMALLEST_SIDE)))
    for level in np.unique(rank):
        members = np.flatnonzero(rank == level)
        side, depth = int(longest[members].max()), int(lengths[members, 0].max())
        step = max(BATCH_VOXELS // (channels * depth * side * side), 1)
        for first in range(0, len(members), step):
            yield members[first : first + step], (depth, side, side)


def _grid(size: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """Indices of the voxels of a box, float32 (1, 3, *size)."""
    axes = [torch.arange(length, device=device, dtype=torch.float32) for length in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def _column(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """Lift (k, 3) to (k, 3, 1, 1, 1)."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)[:, :, None, None, None]
