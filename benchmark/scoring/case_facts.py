"""What a test case is like whatever a method makes of it: volumes, lesions, and how much they differ from the organ."""

from __future__ import annotations

import numpy as np

from ...common.boxes import bounding_box
from ...datasets.case import Spacing
from ..runs.records import CaseFacts, LesionFacts
from .lesions import Components, millilitres
from .surfaces import millimetres, nearest

NEAR_MM = 10.0


def case_facts(
    image: np.ndarray | None, organ: np.ndarray, lesions: Components | None, slices: np.ndarray, spacing: Spacing
) -> CaseFacts:
    """Return the facts of a case.

    Args:
        image: HU, (z, y, x); like the lesions None where only slices are labelled.
        organ: bool, the same shape.
        lesions: those of the case.
        slices: which slices show a lesion, bool (z,).
        spacing: mm.
    """
    shown = organ.any(axis=(1, 2))
    facts = CaseFacts(
        slices=int(shown.sum()), lesion_slices=int((shown & slices).sum()), spacing=spacing,
        organ_ml=millilitres(int(np.count_nonzero(organ)), spacing),
    )  # fmt: skip
    if lesions is None or image is None:
        return facts
    outside = organ.copy()
    outside[tuple(lesions.voxels.T)] = False
    inside, near = hu_inside_and_near(image, outside, lesions, spacing)
    found = [
        LesionFacts(ml=millilitres(int(size), spacing), contrast_hu=_difference(mine, around))
        for size, mine, around in zip(lesions.sizes, inside, near, strict=True)
    ]
    total = None if not found else _difference(np.concatenate(inside), np.concatenate(near))
    return facts.model_copy(
        update={
            "lesion_ml": millilitres(int(lesions.sizes.sum()), spacing),
            "noise_hu": noise(image[outside]),
            "contrast_hu": total,
            "lesions": found,
        }
    )


def noise(hu: np.ndarray) -> float | None:
    """Return 1.4826 × the median absolute deviation, of a normal law its standard deviation; None without a voxel."""
    return float(1.4826 * np.median(np.abs(hu - np.median(hu)))) if hu.size else None


def hu_inside_and_near(
    image: np.ndarray, outside: np.ndarray, lesions: Components, spacing: Spacing
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the HU of each lesion, and of the organ within 10 mm of it.

    ``outside`` is the organ without lesions; a voxel near several lesions belongs to the nearest.
    """
    number = len(lesions)
    if not number:
        return [], []
    mask = np.zeros(image.shape, bool)
    mask[tuple(lesions.voxels.T)] = True
    box = bounding_box(mask, [int(np.ceil(NEAR_MM / step)) for step in spacing])
    places = np.argwhere(outside[box])
    lesion = nearest(mask[box], spacing)[(..., *places.T)].T
    near = millimetres(places, lesion, spacing) <= NEAR_MM
    whose = lesions.at(lesion[near] + [part.start for part in box]) - 1
    return (
        _split(image[tuple(lesions.voxels.T)], lesions.owners, number),
        _split(image[box][tuple(places[near].T)], whose, number),
    )


def _split(values: np.ndarray, owners: np.ndarray, number: int) -> list[np.ndarray]:
    order = np.argsort(owners, kind="stable")
    return np.split(values[order].astype(np.float64), np.searchsorted(owners[order], np.arange(1, number)))


def _difference(inside: np.ndarray, near: np.ndarray) -> float | None:
    return float(inside.mean() - near.mean()) if len(near) else None
