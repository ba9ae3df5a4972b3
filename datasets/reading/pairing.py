"""How a label file lies on its image: as its own header says, or index by index; the scan is asked in doubt.

The one place that decides it, for organs and lesions of every set. The labels' outline follows edges of the image where
they lie right, whatever a header says.
"""

from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np

from ...common.errors import DataError
from ..case import Note, warning
from .geometry import LENGTHS, SPACING_TOLERANCE, Grid

CLEAR = 1.25
"""By what factor the scan has to change more across the outline for another placement than index by index."""
BY_INDEX = "index by index"


@dataclass(frozen=True, eq=False)
class Placement:
    """How the voxels of a label file get onto the axes of its image, as far as the headers tell.

    Attributes:
        grid: turns them; the file's own, or the image's where both are paired index by index.
        text: what a reader of the numbers should know, or nothing.
        notes: warnings about the header of the label file, which name it.
        ways: placements between which only the scan decides (:func:`settled`), by name.
        free: whether it may decide for another way than index by index; else that is refused.
    """

    grid: Grid
    text: str = ""
    notes: tuple[Note, ...] = ()
    ways: dict[str, Grid] = field(default_factory=dict)
    free: bool = False

    @property
    def contested(self) -> bool:
        """Whether the voxels are needed to decide."""
        return bool(self.ways)

    @property
    def said(self) -> tuple[Note, ...]:
        """What the headers alone say about the place."""
        if not self.contested:
            return (*self.notes, Note(self.text)) if self.text else self.notes
        how = "the scan decides how they are paired" if self.free else f"paired {BY_INDEX}"
        return (*self.notes, warning(f"{self.text}; {how}"))


def placement(label: Grid, image: Grid, name: str) -> Placement:
    """Decide how a label file is placed on its image, or between which ways the scan has to decide.

    By its own header where it names other axes than the image's and both cover the same place. Index by index where
    its header is lost, or both name the same axes (a merely shifted header moves nothing). Contested where a header
    names two sets of axes, where both are sound and lie apart, and where the image's is lost and the label's is not.
    """
    notes = header_warnings(label, name, image)
    differs = not _same(label, image)
    if label.lost:
        text = f"{name} has no trusted axes; paired with its image {BY_INDEX}" if differs else ""
        return Placement(image, text, notes)
    named = _named(label, image)
    if not named:
        text = f"affine of {name} differs from the image's; the image's affine is used for both" if differs else ""
        return Placement(image, text, notes)
    stored = f"{name} is stored as {_axes(label)}, its image as {_axes(image)}"
    if label.trusted and image.trusted:
        if same_place(label, image):
            return Placement(label, f"{stored}; each is placed by its own header", notes)
        stored += ", and their headers place them apart"
    index = replace(image, shape=label.shape)
    if image.lost:
        named += [(f"turned to {grid.codes}", grid) for grid in _turned(index)]
    ways = {way: grid for way, grid in [(BY_INDEX, index), *named] if grid.lps_shape == image.lps_shape}
    # Two files that contradict themselves in the same way are of one program, and index by index is its way.
    alike = all(any(_same(own, of) for of in image.forms) for own in label.forms) and label.rival is not None
    free = not alike and (label.rival is not None or image.rival is not None)
    return Placement(image, stored, notes, ways, free)


def header_warnings(label: Grid, name: str, image: Grid | None = None) -> tuple[Note, ...]:
    """Return what the header of a label file contradicts itself in, unless its image's does so in the same words."""
    known = set() if image is None else {note.text for note in image.notes}
    heard = (note.text for note in label.notes if note.level == "warning" and note.text not in known)
    return tuple(warning(f"{name}: {text.removesuffix(LENGTHS)}") for text in heard)


def settled(path: Path, place: Placement, stored: np.ndarray, image: np.ndarray) -> tuple[Grid, Note]:
    """Let a scan decide how labels lie on it; return the grid that turns them, and a warning that says so.

    Index by index is kept where the outline follows edges of the image better that way than any other; another way has
    to be clearly better (:data:`CLEAR`). Ways under which the labels are the same do not matter.

    Args:
        stored: labels in the order of their file, of which every value but 0 counts.
        image: HU, shape (z, y, x), on the axes that ``place`` was decided for.

    Raises:
        DataError: the scan speaks for none of the ways, or for one that may not be taken.
    """
    laid = {way: grid.to_lps(stored) for way, grid in place.ways.items()}
    steps = {way: edge_step(image, labels != 0) for way, labels in laid.items()}
    best = max(steps, key=lambda way: steps[way])
    others = [step for way, step in steps.items() if not np.array_equal(laid[way], laid[best])]
    allowed, factor = (True, 1.0) if best == BY_INDEX else (place.free, CLEAR)
    if others and not (allowed and steps[best] > factor * max(others)):
        shown = list(dict.fromkeys([next(iter(steps)), *sorted(steps, key=lambda way: -steps[way])]))[:2]
        found = " and ".join(f"by {steps[way]:.0f} HU {way}" for way in shown)
        raise refusal(path, place, f"; across the outline the scan changes {found}")
    return place.ways[best], warning(f"{place.text}; paired {best}, as the scan shows")


def refusal(path: Path, place: Placement, why: str = "") -> DataError:
    """Return the refusal of a label file whose place cannot be decided."""
    fix = "store both with one header, or leave the case out with --exclude"
    return DataError(f"{path}: {place.text}{why}; {fix}")


def same_place(a: Grid, b: Grid) -> bool:
    """Whether two grids cover the same voxels once both are on LPS axes; half a voxel of play."""
    if a.lps_shape != b.lps_shape:
        return False
    corners = []
    for grid in (a, b):
        ends = np.array([[0, 0, 0, 1], [*(n - 1 for n in grid.shape), 1]], dtype=float) @ grid.affine.T
        corners.append(np.sort(ends[:, :3], axis=0))
    play = 0.5 * np.asarray(b.spacing[::-1])
    return bool(
        np.allclose(a.spacing, b.spacing, rtol=SPACING_TOLERANCE) and (np.abs(corners[0] - corners[1]) <= play).all()
    )


def edge_step(image: np.ndarray, mask: np.ndarray) -> float:
    """Return the median change in HU between neighbours of which one lies inside a mask, 0 without an outline."""
    steps = []
    for axis in range(3):
        here, there = (np.moveaxis(mask, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        edge = here != there
        a, b = (np.moveaxis(image, axis, 0)[part][edge] for part in (slice(1, None), slice(None, -1)))
        steps.append(np.abs(a.astype(np.float32) - b))
    found = np.concatenate(steps)
    return float(np.median(found)) if found.size else 0.0


def _named(label: Grid, image: Grid) -> list[tuple[str, Grid]]:
    """Return the placements other than index by index that the headers name, each once, on the axes of the image."""
    found: dict[str, tuple[str, Grid]] = {}
    for own in label.forms:
        for of in image.forms:
            # What the label file says, in the millimetres of the form by which the image is turned.
            grid = replace(label, affine=image.affine @ np.linalg.inv(of.affine) @ own.affine)
            way = f"as {own.codes}" + (f" on {of.codes}" if image.rival is not None else "")
            found.setdefault(grid.codes, (way, grid))
    found.pop(image.codes, None)
    return [*found.values()]


def _same(a: Grid, b: Grid) -> bool:
    return np.allclose(a.affine, b.affine, atol=1e-2)


def _turned(grid: Grid) -> list[Grid]:
    """Return the other grids of the same voxels whose axes run along the same lines."""
    signs = [np.diag([*sign, 1.0]) for sign in product((1.0, -1.0), repeat=3)]
    return [replace(grid, affine=grid.affine @ sign) for sign in signs[1:]]


def _axes(grid: Grid) -> str:
    return "unknown axes (lost header)" if grid.lost else " or ".join(form.codes for form in grid.forms)
