"""What anatomy says about the axes of a scan, where its header cannot be trusted."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

AIR_HU, BONE_HU, BODY_HU = -500, 300, -300
_MIN_SIDE_OFFSET = 0.02
_MIN_SPINE_OFFSET = 0.05
_MIN_RISE = 0.02
_CHECK_VOXELS = 2_000_000


@dataclass(frozen=True)
class AxisFlips:
    """Which axes look flipped: True, False, or None where the scan does not tell."""

    x: bool | None = None
    y: bool | None = None
    z: bool | None = None

    @property
    def flipped(self) -> tuple[int, ...]:
        """Array axes (z, y, x) to turn round."""
        return tuple(axis for axis, wrong in enumerate((self.z, self.y, self.x)) if wrong)


def flips_from_liver(image: np.ndarray, liver: np.ndarray) -> AxisFlips:
    """Judge each axis of a supposedly LPS scan by anatomy; image in HU and liver mask, both (z, y, x).

    x: the liver lies on the patient's right, at small x. y: the spine lies at the back, at large y. z: lung, not bowel,
    lies beyond the liver's upper end. The first rule is the check of the LiTS card (docs/datasets.md); the other two
    are needed only for scans without a header. Mirror images of rare anatomy (situs inversus) cannot be told apart.
    """
    zs = np.flatnonzero(liver.any(axis=(1, 2)))
    if zs.size == 0:
        return AxisFlips()
    part = slice(int(zs[0]), int(zs[-1]) + 1)
    step = max(1, int(np.ceil(np.sqrt(image[part].size / _CHECK_VOXELS))))
    view, organ = image[part, ::step, ::step], liver[part, ::step, ::step]
    if not organ.any():
        view, organ = image[part], liver[part]
    body = view > BODY_HU
    y = _wrong_end(view > BONE_HU, body, 1, _MIN_SPINE_OFFSET)
    return AxisFlips(
        _wrong_end(organ, body, 2, _MIN_SIDE_OFFSET), None if y is None else not y, _wrong_way_up(image, liver)
    )


def flips_from_lungs(image: np.ndarray, lungs: np.ndarray) -> AxisFlips:
    """Judge each axis of a supposedly LPS chest scan by anatomy; image in HU and lung mask, both (z, y, x).

    y: the spine lies at the back, at large y. z: apex and diaphragm are domes that rise from the chest wall to the
    middle of each lung, so that columns of lung lie higher there. x: not told, both sides look alike to a mask.
    """
    zs = np.flatnonzero(lungs.any(axis=(1, 2)))
    if zs.size == 0:
        return AxisFlips()
    part = slice(int(zs[0]), int(zs[-1]) + 1)
    step = max(1, int(np.ceil(np.sqrt(image[part].size / _CHECK_VOXELS))))
    view = image[part, ::step, ::step]
    y = _wrong_end(view > BONE_HU, view > BODY_HU, 1, _MIN_SPINE_OFFSET)
    return AxisFlips(None, None if y is None else not y, _domes_hang(lungs[part]))


def _domes_hang(lungs: np.ndarray) -> bool | None:
    """Whether the columns in the middle of the lungs lie lower than those near the wall; None within 2 % of them."""
    seen = lungs.any(axis=0)
    first, last = lungs.argmax(axis=0), lungs.shape[0] - 1 - lungs[::-1].argmax(axis=0)
    heights, depth = ((first + last) / 2)[seen], np.asarray(ndimage.distance_transform_edt(seen))[seen]
    inner = depth >= np.median(depth)
    if inner.all():
        return None
    rise = float(heights[inner].mean() - heights[~inner].mean()) / lungs.shape[0]
    return None if abs(rise) < _MIN_RISE else rise < 0


def _centre(mask: np.ndarray, axis: int) -> float:
    profile = mask.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
    return float((profile * np.arange(profile.size)).sum() / profile.sum())


def _wrong_end(part: np.ndarray, body: np.ndarray, axis: int, least: float) -> bool | None:
    """Whether a part of the low end of an axis lies at the high one; None within ``least`` of the body's extent."""
    if not (body.any() and part.any()):
        return None
    used = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis)))
    offset = (_centre(part, axis) - _centre(body, axis)) / int(used[-1] - used[0] + 1)
    return None if abs(offset) < least else offset > 0


def _wrong_way_up(image: np.ndarray, liver: np.ndarray, reach: int = 8) -> bool | None:
    depth = image.shape[0]
    columns = np.argwhere(liver.any(axis=0))
    columns = columns[:: max(1, len(columns) // 4000)]
    y, x = columns[:, 0], columns[:, 1]
    inside = liver[:, y, x]
    below, above = inside.argmax(axis=0), depth - 1 - inside[::-1].argmax(axis=0)
    steps = np.arange(1, reach + 1)[:, None]

    def air(z: np.ndarray) -> float:
        valid = (z >= 0) & (z < depth)
        values = image[np.clip(z, 0, depth - 1), y, x]
        return float(((values < AIR_HU) & valid).sum() / max(1, valid.sum())) if valid.any() else 0.0

    up, down = air(above + steps), air(below - steps)
    if max(up, down) < 0.05 or max(up, down) < 2 * min(up, down):
        return None
    return down > up
