"""Lungs by classical segmentation: air inside the body, without airways and bowel gas, closed over what fills it."""

from typing import Any

import numpy as np

from ...common.boxes import bounding_box
from ..case import Spacing
from ..views.resize import back_positions, interpolate_back
from .airway import airway
from .morphology import close, dilate, erode

AIR_HU, BODY_HU, BONE_HU = -400, -300, 200
LEFT, RIGHT = 1, 2

_WORKING_MM = 1.5
_GAS_HU, _GAS_ML = -935, 1000.0
_MIN_ML = 10.0
_WITHIN_SHARE = 0.3
_SECOND_SHARE = 0.05
_SPLIT_SHARE = 0.2
_SPLIT_MM = (1.5, 3.0, 4.5, 6.0, 8.0, 10.0)
_SHELL_MM = 5.0
_POCKET_MM, _POCKET_ML = 3.0, 3.0
_VESSEL_MM = 5.0
_INNER_MM = 18.0
_PLEURAL_MM = 24.0
_RIM_MM = 8.0
_HOLE_MM2 = 700.0
_ANGLES = 180


def segment_lungs(image: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return both lungs of a chest CT, bool (z, y, x); all False where none is found (docs/datasets.md).

    Air is below -400 HU. Air that reaches the in-plane border of its slice lies outside the body, as does what has no
    body in front of it and behind it; trachea and main bronchi are followed from the top and taken out; components of
    pure gas are bowel. What is left is split into a right and a left lung. Each is closed by 5 mm over its vessels and
    its holes up to 700 mm2 per slice are filled. To keep consolidation in and the hilum out it is also closed by 18 mm
    where, seen from the middle of the chest, the gap lies behind some lung, and by 24 mm where it lies behind all of
    it, bone left out. In-plane grids finer than 1.2 mm are segmented coarser and interpolated back.
    """
    return lung_labels(image, spacing) > 0


def lung_labels(image: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return the lungs as uint8 (z, y, x): 1 left, 2 right, as in COVID-19-CT-Seg; see :func:`segment_lungs`."""
    step = max(1, int(_WORKING_MM / min(spacing[1], spacing[2]) + 0.25))
    if step == 1:
        return _label(image, spacing)
    labels = _label(_block_mean(image, step), (spacing[0], spacing[1] * step, spacing[2] * step))
    return _enlarge(labels, step, image.shape)


def _label(image: np.ndarray, spacing: Spacing) -> np.ndarray:
    air = image < AIR_HU
    trunk = _trunk(image, spacing)
    inner = air & ~_outside(air)
    centre = _centre(trunk)
    pipes = airway(image, inner, centre, spacing)
    out = np.zeros(image.shape, dtype=np.uint8)
    for label, lung in _two_lungs(image, inner & ~pipes, trunk, centre[1], spacing).items():
        lung &= ~_bowel(lung, image, spacing)
        box = bounding_box(lung, [int(np.ceil(_PLEURAL_MM / s)) for s in spacing])
        whole = _fill(lung[box], image[box], (centre[0] - box[1].start, centre[1] - box[2].start), spacing)
        whole = _without_holes(whole & ~pipes[box], spacing)
        out[box][whole & (out[box] == 0)] = label
    return out


def _outside(air: np.ndarray) -> np.ndarray:
    """Return the air that is connected with the border of its slice: slice by slice, as a mouth opens the airway."""
    import cc3d

    out = np.zeros(air.shape, dtype=bool)
    for plane, mask in zip(out, air, strict=True):
        labels = cc3d.connected_components(mask, connectivity=4)
        edge = np.concatenate((labels[0], labels[-1], labels[:, 0], labels[:, -1]))
        keep = np.zeros(int(labels.max()) + 1, dtype=bool)
        keep[edge] = True
        keep[0] = False
        plane[:] = keep[labels]
    return out


def _trunk(image: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return the soft tissue that hangs together where it is thick: the body without table, tubes and cloth."""
    import cc3d

    labels = np.asarray(cc3d.connected_components(erode(image > BODY_HU, _SHELL_MM, spacing), connectivity=6))
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    return labels == counts.argmax() if counts.any() else np.zeros(image.shape, dtype=bool)


def _centre(trunk: np.ndarray) -> tuple[float, float]:
    flat = trunk.sum(axis=0, dtype=np.float64)
    total = max(flat.sum(), 1.0)
    y, x = (np.arange(n, dtype=np.float64) for n in flat.shape)
    return float((flat.sum(axis=1) * y).sum() / total), float((flat.sum(axis=0) * x).sum() / total)


def _two_lungs(
    image: np.ndarray, air: np.ndarray, trunk: np.ndarray, middle: float, spacing: Spacing
) -> dict[int, np.ndarray]:
    """Return the lung of each side that has one, by its label."""
    import cc3d

    labels = np.asarray(cc3d.connected_components(air, connectivity=6))
    stats = cc3d.statistics(labels)
    ml = np.asarray(stats["voxel_counts"]) * float(np.prod(spacing)) / 1000
    ml[0] = 0
    order = [int(i) for i in np.argsort(-ml, kind="stable") if ml[i] >= _MIN_ML]
    # A lung has the body in front of it and behind it; a table's foam has nothing behind it.
    front, behind = (np.logical_or.accumulate(part, axis=1) for part in (trunk, trunk[:, ::-1]))
    enclosed = np.bincount(labels[front & behind[:, ::-1]], minlength=len(ml))
    within = enclosed >= _WITHIN_SHARE * np.asarray(stats["voxel_counts"])
    order = [i for i in order if within[i] and (ml[i] >= _GAS_ML or np.median(image[labels == i]) >= _GAS_HU)]
    if not order:
        return {}
    place = np.asarray(stats["centroids"])
    main = labels == order[0]
    sides = _split(main, middle, spacing)
    if len(sides) == 1:
        side = next(iter(sides))
        for i in order[1:]:
            if _side(place[i][2], middle) != side and ml[i] >= _SECOND_SHARE * ml[order[0]]:
                sides[_side(place[i][2], middle)] = labels == i
                order.remove(i)
                break
    _add_islands(sides, labels, stats, order[1:], middle)
    return sides


def _side(x: float, middle: float) -> int:
    return LEFT if x > middle else RIGHT


def _split(main: np.ndarray, middle: float, spacing: Spacing) -> dict[int, np.ndarray]:
    """Cut lungs that touch into two by eroding them until they come apart; a lung alone stays whole."""
    import cc3d
    from scipy import ndimage

    profile = main.sum(axis=(0, 1))
    right = profile[: round(middle)].sum() / profile.sum()
    whole = {_side((profile * np.arange(profile.size)).sum() / profile.sum(), middle): main}
    if not _SPLIT_SHARE / 2 <= right <= 1 - _SPLIT_SHARE / 2:
        return whole
    box = bounding_box(main)
    part, shift = main[box], box[2].start
    for radius in _SPLIT_MM:
        labels = np.asarray(cc3d.connected_components(erode(part, radius, spacing), connectivity=6))
        counts = np.bincount(labels.ravel())
        counts[0] = 0
        if np.count_nonzero(counts) < 2:
            continue
        first, second = (int(i) for i in np.argsort(-counts)[:2])
        places = {i: float(np.nonzero(labels == i)[2].mean()) + shift for i in (first, second)}
        opposite = _side(places[first], middle) != _side(places[second], middle)
        if opposite and counts[second] >= _SPLIT_SHARE * counts[first]:
            seeds = np.isin(labels, (first, second))
            nearest = np.empty((3, *seeds.shape), np.int32)
            ndimage.distance_transform_edt(
                ~seeds, spacing, return_distances=False, return_indices=True, indices=nearest
            )
            owner = labels[tuple(nearest)]
            sides = {}
            for i in (first, second):
                lung = np.zeros_like(main)
                lung[box] = part & (owner == i)
                sides[_side(places[i], middle)] = lung
            return sides
    return whole


def _add_islands(sides: dict[int, np.ndarray], labels: np.ndarray, stats: Any, rest: list[int], middle: float) -> None:
    """Add lung cut off by consolidation: aerated, in the shadow of the lungs seen from above, not near their bottom."""
    lungs = np.any(list(sides.values()), axis=0)
    shadow = lungs.any(axis=0)
    used = np.flatnonzero(lungs.any(axis=(1, 2)))
    floor = used[0] + (used[-1] - used[0]) / 3
    for i in rest:
        z, y, x = stats["bounding_boxes"][i]
        if z.start < floor or z.start > used[-1]:
            continue
        island = labels[z, y, x] == i
        if (island & shadow[y, x]).sum() >= 0.8 * island.sum():
            side = _side(stats["centroids"][i][2], middle)
            sides.setdefault(side, np.zeros(labels.shape, dtype=bool))[z, y, x] |= island


def _bowel(lung: np.ndarray, image: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return the pockets of pure gas that hang on the lowest third of a lung through a thin diaphragm."""
    import cc3d

    box = bounding_box(lung)
    out = np.zeros_like(lung)
    height = -(-(box[0].stop - box[0].start) // 3)
    part = (slice(box[0].start, box[0].start + height), *box[1:])
    gas = erode(lung[part] & (image[part] < _GAS_HU), _POCKET_MM, spacing)
    labels = np.asarray(cc3d.connected_components(gas, connectivity=6))
    large = np.bincount(labels.ravel()) * np.prod(spacing) / 1000 >= _POCKET_ML
    large[0] = False
    if not large.any():
        return out
    out[part] = dilate(large[labels], 2 * _POCKET_MM, spacing)
    out &= lung
    # What only hung on the pocket is the rest of the bowel.
    pieces = np.asarray(cc3d.connected_components(lung & ~out, connectivity=6))
    loose = np.zeros(int(pieces.max()) + 1, dtype=bool)
    loose[pieces[dilate(out, max(spacing), spacing)]] = True
    loose[[0, int(np.bincount(pieces.ravel())[1:].argmax()) + 1]] = False
    return out | loose[pieces]


def _fill(lung: np.ndarray, image: np.ndarray, centre: tuple[float, float], spacing: Spacing) -> np.ndarray:
    # Only the ends of the stack may cut a lung: without this rim a closing would run to a near edge of the slice.
    rim = int(np.ceil(_PLEURAL_MM / min(spacing[1:]))) + 1
    inside = (slice(None), slice(rim, -rim), slice(rim, -rim))
    lung, bone = (np.pad(mask, ((0, 0), (rim, rim), (rim, rim))) for mask in (lung, image > BONE_HU))
    centre = (centre[0] + rim, centre[1] + rim)
    closed = _without_holes(close(lung, _VESSEL_MM, spacing), spacing)
    some, all_ = _behind(closed, centre, spacing)
    filled = (close(closed, _INNER_MM, spacing) & some) | (close(closed, _PLEURAL_MM, spacing) & all_)
    filled &= ~dilate(bone, 2.0, spacing)
    return _without_holes(closed | filled, spacing)[inside]


def _without_holes(mask: np.ndarray, spacing: Spacing) -> np.ndarray:
    import cc3d

    out = mask.copy()
    limit = _HOLE_MM2 / (spacing[1] * spacing[2])
    for plane in out:
        if not plane.any():
            continue
        labels = cc3d.connected_components(np.pad(~plane, 1, constant_values=True), connectivity=4)
        small = np.bincount(labels.ravel()) <= limit
        small[[0, labels[0, 0]]] = False
        plane |= small[labels[1:-1, 1:-1]]
    return out


def _behind(lung: np.ndarray, centre: tuple[float, float], spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Return what lies behind some lung seen from the middle of its slice, and behind all of it up to a thin rim."""
    y = (np.arange(lung.shape[1]) - centre[0])[:, None] * spacing[1]
    x = (np.arange(lung.shape[2]) - centre[1])[None] * spacing[2]
    distance = np.hypot(y, x)
    direction = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * _ANGLES).astype(int) % _ANGLES
    some, all_ = np.empty(lung.shape, dtype=bool), np.empty(lung.shape, dtype=bool)
    for z, mask in enumerate(lung):
        first, last = np.full(_ANGLES, np.inf), np.full(_ANGLES, -np.inf)
        np.minimum.at(first, direction[mask], distance[mask])
        np.maximum.at(last, direction[mask], distance[mask])
        some[z] = distance > first[direction]
        all_[z] = some[z] & (distance > last[direction] - _RIM_MM)
    return some, all_


def _block_mean(image: np.ndarray, step: int) -> np.ndarray:
    height, width = (-(-n // step) * step for n in image.shape[1:])
    pad = ((0, 0), (0, height - image.shape[1]), (0, width - image.shape[2]))
    if any(b for _, b in pad):
        image = np.pad(image, pad, mode="edge")
    total = np.zeros((len(image), height // step, width // step), np.float32)
    for y in range(step):
        for x in range(step):
            total += image[:, y::step, x::step]
    return total / np.float32(step * step)


def _enlarge(labels: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolate each label back to the full grid, linearly in the plane."""
    rows = back_positions(labels.shape[1], labels.shape[1] * step, 0, shape[1])
    columns = back_positions(labels.shape[2], labels.shape[2] * step, 0, shape[2])
    out = np.zeros(shape, dtype=np.uint8)
    weight = np.empty(shape[1:], np.float32)
    for small, plane in zip(labels, out, strict=True):
        for label in (LEFT, RIGHT):
            mask = small == label
            if mask.any():
                interpolate_back(mask.astype(np.float32), *rows, *columns, weight)
                plane[weight >= 0.5] = label
    return out
