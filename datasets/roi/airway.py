"""The trachea and main bronchi: followed from the top of the chest, slice by slice, until they enter a lung."""

import numpy as np

from ..case import Spacing
from .morphology import dilate

LUMEN_HU = -750
_SEED_MM2 = (60.0, 1000.0)
_BRANCH_MM2 = 1300.0
_MIN_FILL = 0.5
_MAX_ELONGATION = 2.5
_MIN_LENGTH_MM = 15.0
_WALL_MM = 2.0
_LEAK_MM = 10.0
_MAX_OFF_MM = (90.0, 35.0)


def airway(image: np.ndarray, inner: np.ndarray, centre: tuple[float, float], spacing: Spacing) -> np.ndarray:
    """Return trachea and main bronchi with their walls, bool (z, y, x); empty where no trachea is seen.

    Seen from the top, the first slice counts that has a round hole near the middle of the body which goes on for 15 mm;
    the longest of its holes is the trachea, because a gullet may hold air too. Below it, a hole belongs to the airway
    while it overlaps the airway of the slice above; where it opens into a lung, what lies below the airway of the slice
    above is taken for 10 mm more. ``inner`` is the air inside the body, ``centre`` its middle (y, x) in voxels.
    """
    lumen = inner & (image < LUMEN_HU)
    top = len(image) - 1
    needed = min(_MIN_LENGTH_MM / spacing[0], 0.3 * top)
    for z in range(top, int(0.4 * top), -1):
        longest = max(
            (_follow(lumen, seed, z, spacing) for seed in _round_holes(lumen[z], centre, spacing)), key=len, default=[]
        )
        if len(longest) >= max(needed, 2):
            found = np.zeros(image.shape, dtype=bool)
            for below, plane in enumerate(longest):
                found[z - below] = plane
            return dilate(found, _WALL_MM, spacing)
    return np.zeros(image.shape, dtype=bool)


def _round_holes(plane: np.ndarray, centre: tuple[float, float], spacing: Spacing) -> list[np.ndarray]:
    import cc3d

    labels = cc3d.connected_components(plane, connectivity=4)
    stats = cc3d.statistics(labels)
    pixel = spacing[1] * spacing[2]
    candidates = []
    for label, (count, box, place) in enumerate(
        zip(stats["voxel_counts"], stats["bounding_boxes"], stats["centroids"], strict=True)
    ):
        if label == 0 or not _SEED_MM2[0] <= count * pixel <= _SEED_MM2[1]:
            continue
        height = (box[0].stop - box[0].start) * spacing[1]
        width = (box[1].stop - box[1].start) * spacing[2]
        off = abs(place[0] - centre[0]) * spacing[1], abs(place[1] - centre[1]) * spacing[2]
        round_enough = max(height, width) <= _MAX_ELONGATION * min(height, width)
        full_enough = count * pixel >= _MIN_FILL * height * width
        if round_enough and full_enough and off[0] <= _MAX_OFF_MM[0] and off[1] <= _MAX_OFF_MM[1]:
            candidates.append(labels == label)
    return candidates


def _follow(lumen: np.ndarray, seed: np.ndarray, top: int, spacing: Spacing) -> list[np.ndarray]:
    """Return the airway that begins with ``seed`` in slice ``top``, one mask per slice downwards."""
    import cc3d

    pixel = spacing[1] * spacing[2]
    planes, leak = [seed], _LEAK_MM
    for z in range(top - 1, -1, -1):
        labels = cc3d.connected_components(lumen[z], connectivity=4)
        touched = np.unique(labels[planes[-1] & lumen[z]])
        sizes = np.bincount(labels.ravel()) * pixel
        limit = min(_BRANCH_MM2, 1.8 * np.count_nonzero(planes[-1]) * pixel + 60)
        branches = [int(label) for label in touched if label and sizes[label] <= limit]
        if branches:
            planes.append(np.isin(labels, branches))
        elif touched.any() and (leak := leak - spacing[0]) >= 0:
            planes.append(planes[-1] & lumen[z])
        else:
            break
    return planes
