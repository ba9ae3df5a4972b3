"""The voxel grid of a file: what its header says of axes, spacing and place, and how far each is to be trusted.

NIfTI says it up to three times (sform, qform, pixdim). Here they are compared once; what disagrees is a warning with
both values, and whoever reads the scan lets its anatomy decide, or refuses it. The several names of MetaImage for the
same are compared in :mod:`.mhd_io`, the slices of a DICOM series in :mod:`.dicom_io`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..case import Note, Spacing, warning

OBLIQUE_DEGREES = 0.5
SPACING_TOLERANCE = 0.01
"""Share by which two statements about a voxel size may differ."""
LENGTHS = ", and lengths in mm are not trusted; give the true spacing in spacing.csv"
"""What a contradiction about the voxel size means for a scan; a label takes its lengths from its image."""
_UNIT_MM = 1e-3
_SOUND_MM = (1e-6, 1e6)


@dataclass(frozen=True, eq=False)
class Grid:
    """The stored voxel grid of a file.

    Attributes:
        shape: stored, order i, j, k.
        affine: 4 x 4, stored index to RAS millimetres.
        trusted: False where the axes mean nothing, because the header was lost or contradicts itself about them.
        spacing_trusted: False where the voxel sizes mean nothing, for the same reasons.
        rival: the other affine where the header holds two that name different axes.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    trusted: bool = True
    notes: tuple[Note, ...] = ()
    spacing_trusted: bool = True
    rival: np.ndarray | None = None

    @property
    def codes(self) -> str:
        """Axis codes of the stored order, e.g. ``RAS``; the nearest axes where the affine is oblique."""
        return axis_codes(self.affine)

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm after reorientation, order z, y, x."""
        sizes = voxel_sizes(self.affine)
        axes = _orientation(self.affine)[:, 0].astype(int)
        x, y, z = (float(np.float32(sizes[int(np.flatnonzero(axes == world)[0])])) for world in range(3))
        return z, y, x

    @property
    def obliquity(self) -> float:
        """Largest angle in degrees between a stored axis and its nearest patient axis."""
        columns = self.affine[:3, :3] / voxel_sizes(self.affine)
        return float(np.degrees(np.arccos(np.clip(np.abs(columns).max(axis=0), 0, 1)).max()))

    @property
    def turn(self) -> np.ndarray:
        """The flips and transposes from the stored order to LPS, as nibabel's orientations."""
        from nibabel import orientations

        return orientations.ornt_transform(_orientation(self.affine), orientations.axcodes2ornt("LPS"))

    @property
    def lps_shape(self) -> tuple[int, ...]:
        """Shape (z, y, x) once the voxels are on LPS axes."""
        return self.to_lps(np.broadcast_to(np.False_, self.shape)).shape

    def to_lps(self, stored: np.ndarray) -> np.ndarray:
        """Return a view of ``stored`` (i, j, k) with axes z, y, x in LPS; only flips and transposes, no resampling."""
        from nibabel import orientations

        return orientations.apply_orientation(stored, self.turn).T

    def from_lps(self, turned: np.ndarray) -> np.ndarray:
        """Return a view of ``turned`` (z, y, x) in the stored order (i, j, k): undo :meth:`to_lps`."""
        from nibabel import orientations

        back = orientations.ornt_transform(orientations.axcodes2ornt("LPS"), _orientation(self.affine))
        return orientations.apply_orientation(turned.T, back)

    @property
    def lost(self) -> bool:
        """Whether the header says nothing about the axes, rather than two things."""
        return not self.trusted and self.rival is None

    @property
    def forms(self) -> tuple[Grid, ...]:
        """The grid, and that of the rival affine where the header holds one."""
        return (self,) if self.rival is None else (self, self.other())

    def other(self) -> Grid:
        """Return the grid of the rival affine, whose rival is this one's.

        Raises:
            ValueError: the header names one set of axes only.
        """
        if self.rival is None:
            raise ValueError("no rival affine")
        return replace(self, affine=self.rival, rival=self.affine)


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # what is not finite is found by asking for it
def nifti_grid(shape: tuple[int, int, int], header: Any, notes: tuple[Note, ...] = ()) -> Grid:
    """Compare what a NIfTI header says of its geometry, and return the grid with the notes on it.

    The sform counts before the qform, pixdim where neither is usable. One of the two that is uncoded, singular, not
    finite or the identity says nothing; where no other is left, the header is lost. Voxel sizes that differ by more
    than 1 % from pixdim are not trusted; pixdim's stand where the sform has exactly 1 mm on all axes, which is what
    programs write that know no better. An sform and a qform that name different axes leave the axes untrusted.
    """
    sizes = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    sound = (sizes > _SOUND_MM[0]) & (sizes < _SOUND_MM[1])
    named = bool(sound.all())
    coded = {name: int(header[f"{name}_code"]) > 0 for name in ("sform", "qform")}
    said = {name: affine for name, used in coded.items() if used and (affine := _affine(header, name)) is not None}
    meant = {name: affine for name, affine in said.items() if not _is_identity(affine)}
    found = list(notes)
    if not meant:
        reason = "identity affine" if said else "no usable sform or qform"
        found.append(warning(f"lost header ({reason}): spacing and orientation are not trusted"))
        signs = next(iter(said.values()), np.eye(4))
        lost = signs @ np.diag([*(np.where(sound, sizes, 1.0)), 1.0])
        return Grid(shape, lost, False, tuple(found), False)
    name, affine = next(iter(meant.items()))
    if passed := [other for other, used in coded.items() if used and other not in meant]:
        what = "is the identity" if passed[0] in said else "is unusable"
        found.append(warning(f"{passed[0]} {what}, the geometry is that of the {name}"))
    spacing_trusted = True
    own = voxel_sizes(affine)
    if named and (np.abs(own / sizes - 1) > SPACING_TOLERANCE).any():
        spacing_trusted = False
        used = "the sform's is used"
        if (np.abs(own - 1) < _UNIT_MM).all():
            affine, used = affine @ np.diag([*(sizes / own), 1.0]), "pixdim's is used"
        found.append(warning(f"voxel size {_mm(own)} in the {name}, {_mm(sizes)} in pixdim (i, j, k): {used}{LENGTHS}"))
    rival = meant.get("qform") if name == "sform" else None
    rival = rival if rival is not None and axis_codes(rival) != axis_codes(affine) else None
    if rival is not None:
        found.append(warning(f"the sform names the axes {axis_codes(affine)}, the qform {axis_codes(rival)}"))
    elif name == "sform" and "qform" in meant and (angle := _angle(affine, meant["qform"])) > OBLIQUE_DEGREES:
        found.append(warning(f"sform and qform differ by {angle:.1f} degrees; their nearest patient axes are the same"))
    grid = Grid(shape, affine, rival is None, (), spacing_trusted, rival)
    if grid.obliquity > OBLIQUE_DEGREES:
        found.append(Note(f"axes are oblique by {grid.obliquity:.1f} degrees; the nearest patient axes are used"))
    return replace(grid, notes=tuple(found))


def axis_codes(affine: np.ndarray) -> str:
    """Return the patient axes nearest to those of an affine, such as ``RAS``."""
    import nibabel as nib

    return "".join(str(code) for code in nib.aff2axcodes(affine))


def voxel_sizes(affine: np.ndarray) -> np.ndarray:
    """Return the length in mm of a step along each stored axis."""
    return np.sqrt((affine[:3, :3] ** 2).sum(axis=0))


def _orientation(affine: np.ndarray) -> np.ndarray:
    import nibabel as nib

    return nib.io_orientation(affine)


def _affine(header: Any, name: str) -> np.ndarray | None:
    """Return the affine of a form, None where it is singular, not finite or names an axis twice."""
    from nibabel.spatialimages import HeaderDataError

    try:
        affine = np.asarray(getattr(header, f"get_{name}")(), dtype=np.float64)
    except (HeaderDataError, ValueError, ArithmeticError):
        return None
    if not np.isfinite(affine).all() or not np.isfinite(sizes := voxel_sizes(affine)).all() or (sizes == 0).any():
        return None
    # Of unit columns, so that a single size beyond all measure does not pass for a sound axis.
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-6 or np.isnan(_orientation(affine)).any():
        return None
    return affine


def _is_identity(affine: np.ndarray) -> bool:
    return bool(np.allclose(np.abs(affine[:3, :3]), np.eye(3)) and np.allclose(affine[:3, 3], 0))


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest angle in degrees between the same stored axis in two affines."""
    cosines = (a[:3, :3] / voxel_sizes(a) * (b[:3, :3] / voxel_sizes(b))).sum(axis=0)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1)).max()))


def _mm(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes) + " mm"
