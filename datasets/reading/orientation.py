"""Voxel axes: from the stored order to LPS by the affine, and the anatomical check where no affine can be trusted."""

from dataclasses import dataclass

import numpy as np

from ..case import Note, Spacing

AIR_HU, BONE_HU, BODY_HU = -500, 300, -300
_MIN_SIDE_OFFSET = 0.02
_MIN_SPINE_OFFSET = 0.05
_CHECK_VOXELS = 2_000_000


@dataclass(frozen=True, eq=False)
class Grid:
    """The stored voxel grid of a NIfTI file.

    Attributes:
        shape: stored, order i, j, k.
        affine: 4 x 4, stored index to RAS millimetres.
        trusted: False where the header was lost, so that neither orientation nor spacing mean anything.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    trusted: bool = True
    notes: tuple[Note, ...] = ()

    @property
    def codes(self) -> str:
        """Axis codes of the stored order, e.g. ``RAS``; the nearest axes where the affine is oblique."""
        import nibabel as nib

        return "".join(str(code) for code in nib.aff2axcodes(self.affine))

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm after reorientation, order z, y, x."""
        import nibabel as nib

        sizes = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        axes = nib.io_orientation(self.affine)[:, 0].astype(int)
        x, y, z = (float(np.float32(sizes[int(np.flatnonzero(axes == world)[0])])) for world in range(3))
        return z, y, x

    @property
    def obliquity(self) -> float:
        """Largest angle in degrees between a stored axis and its nearest patient axis."""
        columns = self.affine[:3, :3] / np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(np.degrees(np.arccos(np.clip(np.abs(columns).max(axis=0), 0, 1)).max()))

    @property
    def turn(self) -> np.ndarray:
        """The flips and transposes from the stored order to LPS, as nibabel's orientations."""
        from nibabel import orientations

        stored = orientations.io_orientation(self.affine)
        return orientations.ornt_transform(stored, orientations.axcodes2ornt("LPS"))

    def to_lps(self, stored: np.ndarray) -> np.ndarray:
        """Return a view of ``stored`` (i, j, k) with axes z, y, x in LPS; only flips and transposes, no resampling."""
        from nibabel import orientations

        return orientations.apply_orientation(stored, self.turn).T


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
