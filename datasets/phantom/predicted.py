"""Livers of a phantom as a segmentation method might see them, laid beside the phantom (docs/phantom.md).

They depend on the annotated organ and on the phantom's seed alone, and are no part of the phantom: its files, version
and hashes stay what they are.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...common.atomic import discard, new_folder
from ...common.seeds import derive
from ...common.source_hash import closure_hash
from ..adapters.laid import SOURCE
from ..adapters.surveying import ROIS
from ..case import Spacing
from ..dataset import Dataset
from ..regions.sets import LaidMasks
from .disk import phantom_identity
from .fields import smooth_field
from .files import write_nifti

SHIFT_MM, SCALE_MM = 2.0, 30.0
DOME_MM = 15.0
LEAK_SHARE, LEAK_MM = 0.5, (8.0, 20.0)


def mistaken(roi: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    """Return an organ, bool (z, y, x), with mistakes that automatic segmentation makes of it.

    Its surface is displaced along its normal by a smooth field of 2 mm standard deviation (30 mm between nodes); up to
    15 mm of its topmost slices are missed; in half of the cases it leaks into what lies beside it, as a ball of 8 to 20
    mm radius around a point of the surface.
    """
    half = min(spacing) / 2  # the surface runs between the voxels
    inside, outside = (ndimage.distance_transform_edt(mask, spacing) for mask in (roi, ~roi))
    away = np.where(roi, half - np.asarray(inside), np.asarray(outside) - half)
    axes = tuple(np.arange(size) * step for size, step in zip(roi.shape, spacing, strict=True))
    out = away < SHIFT_MM * smooth_field(rng, (axes[0], axes[1], axes[2]), SCALE_MM)
    top = int(np.flatnonzero(roi.any(axis=(1, 2)))[-1]) + 1
    out[top - int(rng.uniform(0, DOME_MM) / spacing[0]) :] = False
    leaks, radius = rng.random() < LEAK_SHARE, rng.uniform(*LEAK_MM)
    surface = np.argwhere(roi & (away > -max(spacing)))
    centre = surface[rng.integers(len(surface))]
    if leaks:
        grid = np.ogrid[tuple(slice(size) for size in roi.shape)]
        squares = [((g - c) * step) ** 2 for g, c, step in zip(grid, centre, spacing, strict=True)]
        out |= squares[0] + squares[1] + squares[2] <= radius**2
    return out if out.any() else roi


def lay_masks(root: Path, sets: Iterable[type[Dataset]]) -> None:
    """Write predicted organs for those of the sets that need such masks, unless this source has written them before.

    Args:
        root: folder of a phantom.
        sets: adapters; those that need no masks are passed over.
    """
    seed = (phantom_identity(root) or {}).get("seed", 0)
    for cls in sets:
        if not issubclass(cls, LaidMasks):
            continue
        name = cls.whole.card.name
        folder = root / ROIS / name
        text = f"mistakes drawn for the phantom, seed {seed}, source {closure_hash(__name__)[:16]}\n"
        if (folder / SOURCE).is_file():
            if (folder / SOURCE).read_text(encoding="utf-8") == text:
                continue
            discard(folder)
        scans = cls.whole()
        with new_folder(folder) as scratch:
            for ref in scans.discover(root):
                case = scans.load(ref.id)
                rng = np.random.default_rng(derive(seed, "predicted organ", name, ref.id))
                mask = mistaken(case.roi, case.spacing, rng).astype(np.uint8)
                write_nifti(scratch / f"{ref.id}.nii.gz", mask, case.spacing, orientation="LPS")
            (scratch / SOURCE).write_text(text, encoding="utf-8")
